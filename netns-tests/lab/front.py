"""What people put before a server.

Nginx and haproxy, with the configurations that their manuals give for WebSockets.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Literal

from lab.authority import CertificateFiles
from lab.host import Host
from lab.process import LabError, Process

INSTALL = Path(__file__).parents[2] / "scripts" / "install"

Kind = Literal["nginx", "websockets", "haproxy", "balancer"]
"""``websockets`` is an nginx that knows of no other upgrade, the last is haproxy in its TCP mode."""

NGINX = """
daemon off;
pid /run/front.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path /run/tmp/body;
    proxy_temp_path /run/tmp/proxy;
    fastcgi_temp_path /run/tmp/fastcgi;
    uwsgi_temp_path /run/tmp/uwsgi;
    scgi_temp_path /run/tmp/scgi;
    map $http_upgrade $passed_upgrade {{
        {upgrades}
    }}
    map $passed_upgrade $connection_upgrade {{
        default upgrade;
        "" close;
    }}
    server {{
        listen {front}{tls};
        location / {{
            proxy_pass http://{server};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $passed_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    timeout tunnel 1h
frontend front
    bind {front}
    default_backend server
backend server
    server server {server}
"""

BALANCER = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend front
    bind {front}
    default_backend server
backend server
    server server {server}
"""


TLS = " ssl; ssl_certificate {certificate}; ssl_certificate_key {key}"
ANY_UPGRADE = "default $http_upgrade;"
WEBSOCKET_ALONE = 'default ""; websocket websocket;'


def start_front(
    host: Host,
    kind: Kind,
    front: tuple[str, int],
    server: tuple[str, int],
    files: CertificateFiles | None = None,
) -> Process:
    """Starts a proxy on a host, and installs the proxies first where this machine has none.

    Args:
        host: where.
        kind: what.
        front: the IPv4 address and port at which it takes connections.
        server: where it passes them on to.
        files: nginx speaks TLS with this certificate, and passes on what was in it.

    Raises:
        LabError: it cannot be installed.
    """
    text, argv = {
        "nginx": (NGINX, ["nginx", "-e", "stderr", "-c"]),
        "websockets": (NGINX, ["nginx", "-e", "stderr", "-c"]),
        "haproxy": (HAPROXY, ["haproxy", "-db", "-f"]),
        "balancer": (BALANCER, ["haproxy", "-db", "-f"]),
    }[kind]
    if shutil.which(argv[0]) is None:
        _install()
    words = {
        "front": f"{front[0]}:{front[1]}",
        "server": f"{server[0]}:{server[1]}",
        "upgrades": WEBSOCKET_ALONE if kind == "websockets" else ANY_UPGRADE,
        "tls": TLS.format(certificate=files.certificate, key=files.key) if files is not None else "",
    }
    host.path("/run/front.conf").write_text(text.format(**words), encoding="ascii")
    return host.start([*argv, "/run/front.conf"], name=kind)


def _install() -> None:
    """Brings nginx and haproxy: `scripts/lab` installs what every topology needs, and few have a proxy."""
    done = subprocess.run([INSTALL, "--proxies"], stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise LabError(
            f"scripts/install --proxies ended {done.returncode}: this topology needs nginx or haproxy"
        )
