"""What people put before a server: nginx and haproxy, with the configurations that their manuals give for WebSockets."""

from typing import Literal

from lab.host import Host
from lab.process import Process

Kind = Literal["nginx", "haproxy", "balancer"]
"""The last is haproxy too, in its TCP mode."""

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
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        "" close;
    }}
    server {{
        listen {front};
        location / {{
            proxy_pass http://{server};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
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


def start_front(host: Host, kind: Kind, front: tuple[str, int], server: tuple[str, int]) -> Process:
    """Start one on a host; it passes on to the server what comes to ``front``. Both addresses are IPv4."""
    text, argv = {
        "nginx": (NGINX, ["nginx", "-e", "stderr", "-c"]),
        "haproxy": (HAPROXY, ["haproxy", "-db", "-f"]),
        "balancer": (BALANCER, ["haproxy", "-db", "-f"]),
    }[kind]
    where = {"front": f"{front[0]}:{front[1]}", "server": f"{server[0]}:{server[1]}"}
    host.path("/run/front.conf").write_text(text.format(**where), encoding="ascii")
    return host.start([*argv, "/run/front.conf"], name=kind)
