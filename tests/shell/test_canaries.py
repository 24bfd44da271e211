"""Secrets driven through every input, and looked for in everything that comes out.

A real server, a real node and real commands, as processes; a proxy whose URL has a password. Each secret is put where secrets
belong (files, stdin, bodies, bearer headers) and also where somebody may put it by mistake (names, paths, queries, a
control message that makes no sense). Then stdout, stderr, logs, arguments and environment of the processes, metrics,
health, status, counters and every file that is not 0600 are searched for it.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from coderd.api.io.client import ApiClient
from coderd.server.backup import make_backup

pytestmark = pytest.mark.slow

CODERD = Path(sys.executable).with_name("coderd")
CODERCTL = Path(sys.executable).with_name("coderctl")
CANARY = "cdrs_canary" + "x7Qd3" * 8
PASSWORD = "canary-password-Zt9"
TIMEOUT = 30


class Witness:
    """Everything that came out, by where."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def hear(self, where: str, text: str) -> None:
        self.texts[f"{where} ({len(self.texts)})"] = text

    def look_at_process(self, name: str, pid: int) -> None:
        for what in ("cmdline", "environ"):
            self.hear(
                f"/proc/{name}/{what}", Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace")
            )

    def look_at_files(self, directory: Path) -> None:
        """Whatever somebody else could read, and the names of all."""
        for path in sorted(directory.rglob("*")):
            self.hear("file name", str(path))
            if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                self.hear(str(path), path.read_bytes().decode(errors="replace"))

    def places_of(self, secret: str) -> list[str]:
        return [where for where, text in self.texts.items() if secret in text]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--access-url", url, "--http-address", f"127.0.0.1:{port}", "--stun-address", "off"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as readiness, (tmp_path / "log").open("w") as log:
        readiness.bind(str(tmp_path / "notify"))
        readiness.settimeout(TIMEOUT)
        process = subprocess.Popen(
            [CODERD, "server", *options, "--state-dir", tmp_path / "state"],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        try:
            assert readiness.recv(100) == b"READY=1"
            yield process, url
        finally:
            process.kill()
            process.wait()


def test_no_secret_comes_out_of_anything(tmp_path: Path, server: tuple[subprocess.Popen[bytes], str]) -> None:
    process, url = server
    witness = Witness()
    admin_token = (tmp_path / "state" / "admin-token").read_text("ascii").strip()
    admin = ApiClient(url, admin_token)
    user = admin.create_user("ann").token
    secrets = {
        "the admin's token": admin_token,
        "a user's token": user,
        "a workspace's token": ApiClient(url, user).create_workspace("dev").token,
        "a join key": ApiClient(url, user).create_token("join", reusable=True).token,
        "the canary": CANARY,
        "the proxy's password": PASSWORD,
        **keys_in(tmp_path / "state" / "keys.json"),
    }
    for secret in secrets.values():
        drive_through_api(url, secret, witness)
    for secret in (CANARY, user):
        drive_through_commands(url, secret, tmp_path, witness)
    look_around(url, admin_token, witness)
    make_backup(tmp_path / "state", tmp_path / "backup.tar")
    witness.look_at_process("server", process.pid)
    witness.look_at_files(tmp_path)
    process.send_signal(signal.SIGTERM)
    process.wait(TIMEOUT)
    log = (tmp_path / "log").read_text()
    witness.hear("the server's output", log)
    assert "api_refused" in log, "the log was written at all"
    found = {name: witness.places_of(secret) for name, secret in secrets.items()}
    assert found == {name: [] for name in secrets}


def keys_in(path: Path) -> dict[str, str]:
    """Private keys, without the prefix that says what they are."""
    return {name: text.rpartition(":")[2] for name, text in json.loads(path.read_text()).items()}


def drive_through_api(url: str, secret: str, witness: Witness) -> None:
    """As a bearer, and where no secret belongs. An answer to its sender may hold what was sent: only the log may not."""
    bearer = {"authorization": f"Bearer {secret}"}
    once = {"connection": "close"}  # some of these end their connection, which the next must not meet
    with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False, headers=once) as client:
        for path in ("users/me", "audit", "health", "workspaces/nothing", "coordinate", "tokens/nothing"):
            witness.hear(f"GET {path}", client.get(f"/api/v1/{path}", headers=bearer).text)
        client.get(f"/api/v1/users/{secret}", headers={"cookie": f"token={secret}", "x-token": secret})
        client.get(f"/{secret}", params={"token": secret})
        client.post("/api/v1/users", json={"name": secret}, headers=bearer)
        client.post("/api/v1/workspaces", content=f"{{{secret}", headers=bearer)
        client.post("/api/v1/join", json={"name": secret}, headers={"authorization": f"Basic {secret}"})
        client.post("/derp/verify", json={"NodePublic": secret, "Source": secret})
        client.get("/derp", headers={"upgrade": secret, "connection": "upgrade"})


def drive_through_commands(url: str, secret: str, directory: Path, witness: Witness) -> None:
    """By stdin and by file, right and wrong, and through a proxy that is not there."""
    token = directory / "token"
    token.touch(0o600)
    token.write_text(secret)
    proxied = {"http_proxy": f"http://ann:{PASSWORD}@127.0.0.1:9", "no_proxy": ""}
    for arguments in (
        ["workspaces", "list", "--url", url, "--token-file", "-"],
        ["workspaces", "list", "--url", url, "--token-file", str(token), "--json"],
        ["workspaces", "show", "nothing", "--url", url, "--token-file", str(token)],
        ["health", "--url", "http://192.0.2.1:9", "--insecure", "--token-file", str(token)],
        ["users", "list", "--url", "http://127.0.0.1:9", "--token-file", str(token)],
        ["up", url, "--token-file", str(token), "--socket", str(directory / "no.sock")],
    ):
        done = subprocess.run(
            [CODERCTL, *arguments],
            input=secret,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "CODERD_DEBUG": "1", **proxied},
        )
        witness.hear(f"coderctl {arguments[0]}", done.stdout + done.stderr)


def look_around(url: str, admin_token: str, witness: Witness) -> None:
    """All that shows something, asked by who may see all of it."""
    with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
        bearer = {"authorization": f"Bearer {admin_token}"}
        for path in ("/metrics", "/readyz", "/healthz"):
            witness.hear(path, client.get(path, headers=bearer).text)
        for path in (
            "audit",
            "openings",
            "debug/counters",
            "health",
            "tokens",
            "users",
            "devices",
            "workspaces",
            "openapi.json",
        ):
            witness.hear(path, client.get(f"/api/v1/{path}", headers=bearer).text)
