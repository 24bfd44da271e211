"""The deployments of docs/server.md and docs/nodes.md, word for word, on hosts that systemd has booted.

Not run: ``scripts/install``, which has made the environment that this test runs in.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from lab.booted import Outcome, run_booted

pytestmark = [pytest.mark.booted, pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[1]
UNITS = sorted((ROOT / "systemd").glob("*[!@].service"))
"""But the template of a shell, which is its user's and closed to nothing."""
NOT_RUN = "sudo scripts/install"
MOST = 60.0
"""Seconds that a page's commands may take; they take five."""

START = """
test "$(stat --format=%a /dev/net/tun)" = 600
sudo() { "$@"; }
export HOME=/root
cd /opt/coderd
"""
WITH_SERVER = """
ln -sf /opt/coderd/.venv/bin/coderd /opt/coderd/.venv/bin/coderctl /usr/local/bin/
install -m 644 systemd/coderd-server.service /etc/systemd/system/
systemctl daemon-reload
systemctl start coderd-server
export SERVER_URL=http://127.0.0.1:3000
install -m 600 /var/lib/coderd-server/admin-token token
"""
WITH_TOKEN = """
coderctl workspaces create dev --url $SERVER_URL --token-file token --json | sed -n 's/.*"token": *"\\([^"]*\\)".*/\\1/p' > /etc/coderd/token
chmod 600 /etc/coderd/token
"""
SERVER = 'access_url = "http://127.0.0.1:3000"\n'
THIS_SERVER = "http://127.0.0.1:3000"
ASKS_FOR_A_SHELL = """
import trio
from coderd.model.account import LoginSocket
from coderd.terminal.frames import Size
from coderd.terminal.io.starting import start_shell

async def main():
    shell = await start_shell(LoginSocket("/run/coderd-terminal.socket"), Size(24, 80))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shell.run)
        await shell.write(b"id -un; stat -c %U $(tty); grep -E 'CapEff|SigIgn' /proc/self/status; exit 7\\n")
        with trio.move_on_after(20):
            while shell.exit_code is None:
                await shell.changed.wait()
        nursery.cancel_scope.cancel()
    print(shell.scrollback.read(0, 65536).decode(), "exit", shell.exit_code)

trio.run(main)
"""
"""The daemon's part of a terminal, run as the daemon's user."""
UNTIL = 'until_true() { for _ in $(seq 100); do if eval "$1"; then return 0; fi; sleep 0.1; done; echo "never: $1" >&2; return 1; }\n'


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def commands(text: str, label: str = "") -> Iterator[str]:
    """A page's shell lines of a label, in order, but the installation's."""
    fence = f"sh {label}".strip()
    for block in re.findall(rf"^```{fence}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from (line for line in block.splitlines() if line != NOT_RUN)


def files(text: str) -> dict[str, str]:
    """The page's files by their paths."""
    return dict(re.findall(r"^```\w+ (/\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def numbered(lines: list[str]) -> str:
    return "\n".join(f"printf '\\n>> {index}\\n'\n{line}" for index, line in enumerate(lines))


def outputs(outcome: Outcome) -> list[str]:
    return re.split(r"^>> \d+\n", outcome.output, flags=re.MULTILINE)[1:]


def story(outcome: Outcome) -> str:
    return "\n".join((outcome.output, outcome.errors, outcome.journal))


def certificates(name: str) -> dict[str, str]:
    """A chain, its key, and the authority that vouches for it."""
    authority = trustme.CA()
    certificate = authority.issue_cert(name)
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    return {
        "/etc/coderd/ca.pem": authority.cert_pem.bytes().decode(),
        "/etc/coderd/chain.pem": chain.decode(),
        "/etc/coderd/key.pem": certificate.private_key_pem.bytes().decode(),
    }


def test_the_servers_page_works_line_by_line(tmp_path: Path) -> None:
    text = page("server.md")
    lines = list(commands(text[text.index("## A deployment") : text.index("## Health")]))
    again = [line for line in lines if line.startswith(("curl", "sudo cat"))]
    trust = "/etc/coderd/ca.pem"
    given = {
        **files(text),
        **certificates("coder.example.com"),
        "/etc/hosts": "127.0.0.1 localhost coder.example.com\n",
        "/etc/systemd/system/coderd-server.service.d/trust.conf": f"[Service]\nEnvironment=SSL_CERT_FILE={trust}\n",
    }
    start = f"{START}export SSL_CERT_FILE={trust} CURL_CA_BUNDLE={trust}\nsystemctl start nginx\n"
    done = run_booted(tmp_path, start + numbered([*lines, *again]), given, timeout=MOST)
    assert done.status == 0, story(done)
    for line, output in zip([*lines, *again], outputs(done), strict=True):
        if line.endswith("/readyz"):
            assert output.strip() == '{"status":"ready"}'
        if "coderctl health" in line:
            assert not re.search("EACS|EWS|EDERP|ESTUN|EDB|ECLK|ETLS|EWEB", output), output
        if line.endswith("/metrics"):
            assert "coderd_nodes_online" in output
    assert "Restored the state of coderd" in done.errors


def test_the_nodes_page_makes_a_workspace_that_serves_and_comes_back_when_it_is_killed(
    tmp_path: Path,
) -> None:
    text = page("nodes.md").replace("https://coder.example.com", THIS_SERVER)
    lines = [*commands(text), *commands(text, "workspace")]
    script = (
        START
        + UNTIL
        + WITH_SERVER
        + WITH_TOKEN
        + """
mkdir /srv/site && echo hello from dev > /srv/site/index.html
systemd-run --quiet --unit=site python3 -m http.server --bind 127.0.0.1 --directory /srv/site 8000
"""
        + numbered(lines)
        + """
app() { curl --fail --silent --header "Authorization: Bearer $(cat token)" $SERVER_URL/@admin/dev/apps/8000/; }
until_true 'app'
systemctl kill --signal=KILL --kill-whom=main coderd
until_true '! systemctl is-active --quiet coderd'
until_true 'systemctl is-active --quiet coderd'
until_true 'app'
systemctl stop coderd
systemctl show --property=Result,NRestarts,User coderd
"""
    )
    done = run_booted(tmp_path, script, {"/etc/coderd/server.toml": SERVER}, timeout=MOST)
    assert done.status == 0, story(done)
    assert done.output.count("hello from dev") == 2, story(done)
    last = outputs(done)[-1]
    assert re.search("^Result=success$", last, re.MULTILINE), story(done)
    assert re.search("^NRestarts=1$", last, re.MULTILINE), story(done)


def test_a_device_that_was_given_to_a_group_is_left_as_it_is_and_the_server_says_what_to_do(
    tmp_path: Path,
) -> None:
    given = "chgrp nogroup /dev/net/tun\n"
    ask = "coderctl health --url $SERVER_URL --token-file token\nstat --format=%a /dev/net/tun\n"
    done = run_booted(
        tmp_path, START + given + WITH_SERVER + ask, {"/etc/coderd/server.toml": SERVER}, timeout=MOST
    )
    assert "the server may not open /dev/net/tun (EACCES)" in done.output, story(done)
    assert "chmod 0666 /dev/net/tun" in done.output
    assert done.output.endswith("\n600\n")


def test_systemd_starts_the_shells_of_a_workspace_as_the_user_that_root_has_named(tmp_path: Path) -> None:
    joining = [*commands(page("nodes.md")), *commands(page("nodes.md"), "workspace")]
    lines = [*joining, *commands(page("terminal.md"), "workspace")]
    ask = "/opt/coderd/.venv/bin/python /opt/ask.py"
    script = (
        START
        + UNTIL
        + WITH_SERVER
        + WITH_TOKEN
        + "useradd --create-home --shell /bin/sh ann\n"
        + numbered(lines).replace("https://coder.example.com", THIS_SERVER)
        + f"""
until_true 'coderctl status | grep -q connected'
printf '\\n>> ask\\n'
setpriv --reuid=coderd --regid=coderd --clear-groups {ask}
if setpriv --reuid=nobody --regid=nogroup --clear-groups {ask}; then exit 3; fi
"""
    )
    given = {"/etc/coderd/server.toml": SERVER, "/opt/ask.py": ASKS_FOR_A_SHELL}
    done = run_booted(tmp_path, script, given, timeout=MOST)
    assert done.status == 0, story(done)
    said = [line.removeprefix("$ ") for line in done.output.split(">> ask")[1].splitlines()]
    assert said.count("ann") == 2, story(done)
    assert {
        line.split()[0]: int(line.split()[1], 16) for line in said if line.startswith(("Cap", "Sig"))
    } == {
        "CapEff:": 0,
        "SigIgn:": 0,
    }
    assert any("exit 7" in line for line in said[-2:])
    assert "PermissionError" in done.errors


def test_the_nodes_page_signs_a_person_in_at_a_service(tmp_path: Path) -> None:
    text = page("nodes.md").replace("https://coder.example.com", THIS_SERVER)
    script = START + WITH_SERVER + numbered([*commands(text), *commands(text, "user"), "coderctl status"])
    done = run_booted(tmp_path, script, {"/etc/coderd/server.toml": SERVER}, timeout=MOST)
    assert done.status == 0, story(done)
    assert "Joined http://127.0.0.1:3000 as admin/host" in done.output, story(done)


def test_a_relay_runs_as_a_service_at_a_low_port_reads_its_certificate_anew_and_is_started_again_when_it_hangs(
    tmp_path: Path,
) -> None:
    script = (
        START
        + UNTIL
        + WITH_SERVER
        + """
install -m 644 systemd/coderd-derp.service /etc/systemd/system/
systemctl daemon-reload
systemctl start coderd-derp
curl --silent --fail --insecure https://127.0.0.1/healthz
systemctl reload coderd-derp
curl --silent --fail --insecure https://127.0.0.1/healthz
mkdir /etc/systemd/system/coderd-derp.service.d
printf '[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\n' > /etc/systemd/system/coderd-derp.service.d/soon.conf
systemctl daemon-reload
systemctl restart coderd-derp
sleep 2.5
systemctl show --property=NRestarts,ActiveState coderd-derp
systemctl kill --signal=STOP --kill-whom=main coderd-derp
until_true 'systemctl show --property=NRestarts coderd-derp | grep -q =1'
until_true 'curl --silent --fail --insecure https://127.0.0.1/healthz'
systemctl stop coderd-derp
systemctl show --property=Result coderd-derp
"""
    )
    options = (
        'access_url = "https://derp.example.com"\nverify_url = "http://127.0.0.1:3000/derp/verify"\n'
        'stun_address = "off"\n'
    )
    given = {"/etc/coderd/server.toml": SERVER, "/etc/coderd/derp.toml": options}
    done = run_booted(tmp_path, script, given, timeout=MOST)
    assert done.status == 0, story(done)
    assert "NRestarts=0\nActiveState=active\n" in done.output, story(done)
    assert "Watchdog timeout" in done.journal, story(done)
    assert "Result=success" in done.output, story(done)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_the_unit_sound_and_well_closed(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.fail("scripts/install --dev brings systemd")
    text = re.sub("/usr/local/bin/coderd", "/bin/true", unit.read_text(encoding="utf-8"))
    (copy := tmp_path / unit.name).write_text(text, encoding="utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    scored = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(copy)]
    assert subprocess.run(scored, capture_output=True, check=False).returncode == 0
