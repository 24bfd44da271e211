"""The deployment of docs/server.md, its very commands and files, on a host of its own: nginx, the server, curl.

The host is a network namespace and a mount namespace, so that files are where the page has them, at ports that it names. What
a container has no room for stands in: ``systemctl`` starts what the unit's ExecStart says, as a user who may do no
more than read, and nginx. Not run: ``scripts/install``, which has made the environment that this test runs in, and systemd itself, whose
opinion of the unit is asked for apart.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from people import as_service

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
UNIT = ROOT / "systemd" / "coderd-server.service"
NOT_RUN = "sudo scripts/install"
CHECKOUT = "/opt/coderd"
"""Where the page has this repository."""

HOST = """
set -eu
ip link set lo up
for place in /usr/local/bin /var/lib /etc/systemd/system /etc/nginx/conf.d /var/backups /run; do
    mkdir -p $place; mount -t tmpfs tmpfs $place
done
mkdir -p /etc/coderd; mount --bind "$FILES/etc/coderd" /etc/coderd
mount --bind "$FILES/hosts" /etc/hosts
cp "$FILES"/etc/nginx/conf.d/* /etc/nginx/conf.d/
cp "$FILES/systemctl" /usr/local/bin/
export SSL_CERT_FILE=/etc/coderd/ca.pem CURL_CA_BUNDLE=/etc/coderd/ca.pem XDG_CONFIG_HOME=/run
sudo() { "$@"; }
cd "$REPOSITORY"
"""
SYSTEMCTL = r"""#!/bin/sh
# Stands in for systemd: starts and stops what the installed unit says, and nginx.
set -eu
until_answered() { curl --silent --output /dev/null --retry 60 --retry-delay 0 --retry-max-time 10 --retry-connrefused "$1"; }
start_server() {
    mkdir -p /var/lib/coderd-server && chmod 700 /var/lib/coderd-server && chown 4711:4711 /var/lib/coderd-server
    command=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/coderd-server.service)
    AS_SERVER \
        sh -c "echo \$\$ && exec $command >&2" > /run/server.pid &
    until_answered http://127.0.0.1:3000/readyz
}
stop_server() { kill -TERM "$(cat /run/server.pid)"; tail --pid="$(cat /run/server.pid)" -f /dev/null; }
case "$*" in
    "daemon-reload") ;;
    "enable --now coderd-server" | "start coderd-server") start_server ;;
    "stop coderd-server") stop_server ;;
    "reload nginx") nginx -c "$FILES/nginx.conf" & until_answered http://127.0.0.1:443/ ;;
    *) echo "systemctl $* is not known here" >&2; exit 1 ;;
esac
"""
NGINX = """
daemon off;
user root;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    uwsgi_temp_path {directory};
    scgi_temp_path {directory};
    include /etc/nginx/conf.d/*.conf;
}}
"""


def commands() -> Iterator[str]:
    """The page's shell lines under the deployment's heading, in order."""
    deployment = PAGE[PAGE.index("## A deployment") : PAGE.index("## Health")]
    for block in re.findall(r"^```sh\n(.*?)^```$", deployment, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


def files() -> dict[str, str]:
    """The page's files by their paths."""
    return dict(re.findall(r"^```\w+ (/\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The files of the host."""
    for path, text in {**files(), "/hosts": "127.0.0.1 localhost coder.example.com\n"}.items():
        target = tmp_path / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    authority = trustme.CA()
    certificate = authority.issue_cert("coder.example.com")
    authority.cert_pem.write_to_path(str(tmp_path / "etc/coderd/ca.pem"))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(tmp_path / "etc/coderd/chain.pem"), append=True)
    certificate.private_key_pem.write_to_path(str(tmp_path / "etc/coderd/key.pem"))
    (tmp_path / "nginx.conf").write_text(NGINX.format(directory=tmp_path), encoding="utf-8")
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(SYSTEMCTL.replace("AS_SERVER", shlex.join(as_service(4711))), encoding="utf-8")
    systemctl.chmod(0o755)
    for directory in (tmp_path, *tmp_path.parents):
        if directory.is_relative_to("/tmp/pytest-of-root"):
            directory.chmod(0o755)  # the server is nobody in particular, and reads its options
    return tmp_path


def test_the_pages_deployment_works_line_by_line(host: Path) -> None:
    lines = [line for line in commands() if line != NOT_RUN]
    assert len(lines) == len(list(commands())) - 1
    again = [line for line in lines if line.startswith(("curl", "sudo cat"))]
    numbered = (f"printf '\\n>> {index}\\n'\n{line}" for index, line in enumerate([*lines, *again]))
    script = "\n".join([HOST, *numbered]).replace(CHECKOUT, str(ROOT))
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            script,
        ],
        env={
            "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "FILES": str(host),
            "REPOSITORY": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = re.split(r"^>> \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    for line, output in zip([*lines, *again], outputs, strict=True):
        if line.endswith("/readyz"):
            assert output.strip() == '{"status":"ready"}'
        if "coderctl health" in line:
            assert not re.search("EACS|EWS|EDERP|ESTUN|EDB|ECLK|ETLS", output), output
        if line.endswith("/metrics"):
            assert "coderd_nodes_online" in output
    assert "Restored the state of coderd" in done.stderr


def test_systemd_finds_the_unit_sound_and_well_closed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.fail("scripts/install --dev brings systemd")
    text = UNIT.read_text(encoding="utf-8").replace("/usr/local/bin/coderd", "/bin/true")
    (unit := tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    scored = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    assert subprocess.run(scored, capture_output=True, check=False).returncode == 0
