"""``coderd server`` on a host, reached as its topology says.

Bare, through a proxy or a gate, by http or https.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.authority import Authority
from lab.front import start_front
from lab.gate import HTTP_PORT
from lab.host import Host
from lab.process import LabError, Process
from lab.relay import Relay, derp_map
from lab.topology import Service
from lab.waiting import until

BEHIND_FRONT = ("127.0.0.1", 3001)
"""Where the server itself listens when something on its own host takes its connections."""

MAP_FILE = "/run/derpmap.json"


class Server:
    """``coderd server`` on a host.

    Args:
        host: where.
        address: the one that everybody reaches it at.
        service: what stands before it, and what it is told.
        authority: who makes its certificate, if it needs one.
        relays: those of its map, if the server itself is none.
    """

    def __init__(
        self,
        host: Host,
        address: str,
        service: Service,
        authority: Authority | None,
        relays: Sequence[Relay] = (),
    ) -> None:
        self.host = host
        self.address = address
        self.state_dir = "/run/coderd-server-state"
        self.daemon: Process | None = None
        self.launcher: Sequence[str] = ()
        """What goes before its command: a program that gives up rights, say."""
        self._service = service
        self._authority = authority
        self._relays = relays
        self.url = self._url(address)
        self._near = "127.0.0.1" if service.gate != "none" else address

    def _url(self, address: str) -> str:
        scheme = "https" if self._service.is_encrypted or self._service.is_pinned else "http"
        shown = f"[{address}]" if ":" in address else address
        return f"{scheme}://{shown}:{HTTP_PORT}"

    @property
    def join_url(self) -> str:
        """Its URL as whoever joins is told it: with the pin of its certificate, if it made that itself."""
        return self.url + self._pin

    @property
    def _pin(self) -> str:
        """What the server prints, as it stands behind a URL."""
        if not self._service.is_pinned:
            return ""
        found = self._printed_pin()
        if found is None:
            raise LabError("the server has not printed its pin")
        return f"#{found[1]}"

    def _printed_pin(self) -> re.Match[str] | None:
        return re.search(
            r"--pin (sha256:[0-9a-f]{64})", self.daemon.output if self.daemon is not None else ""
        )

    def start(self, *arguments: str) -> None:
        """Start it, and wait until it answers, the first admin has a token, and it has said whom to trust."""
        argv = ["coderd", "server", "--access-url", self.url, "--state-dir", self.state_dir]
        daemon = self.daemon = self.host.start(
            [*self.launcher, *argv, *self._where(), *self._told(), *arguments], name="coderd server"
        )

        def is_up() -> bool:
            if not daemon.is_running:
                raise LabError(f"the server ended {daemon.code}")
            has_told = self._token_file.exists() and (not self._service.is_pinned or self._printed_pin())
            return bool(has_told) and self.host.answers_tcp(self._near, HTTP_PORT)

        until(is_up, "the server to answer", timeout=30)
        for relay in self._relays:
            relay.start(f"{self.url}/derp/verify")

    def _where(self) -> list[str]:
        """How it listens; what stands before it on its own host is started."""
        files = self._authority.certify(self.host, self.address) if self._authority is not None else None
        if self._service.front != "none":
            start_front(self.host, self._service.front, (self.address, HTTP_PORT), BEHIND_FRONT, files)
            return ["--http-address", f"{BEHIND_FRONT[0]}:{BEHIND_FRONT[1]}"]
        if files is None:
            return []
        here = f"[::]:{HTTP_PORT}"
        return ["--http-address", here, "--tls-cert-file", files.certificate, "--tls-key-file", files.key]

    def _told(self) -> list[str]:
        """What it lets its nodes do."""
        told = []
        if self._service.websockets_only:
            told.append("--derp-force-websockets")
        if self._service.blocks_direct:
            told.append("--block-direct-connections")
        if self._relays:
            self.host.path(MAP_FILE).write_text(derp_map(self._relays), encoding="utf-8")
            told += ["--no-derp-server-enable", "--derp-config-path", MAP_FILE]
        return told

    @property
    def _token_file(self) -> Path:
        return self.host.path(f"{self.state_dir}/admin-token")

    @property
    def admin_token(self) -> str:
        """The first admin's token, as the server left it in its state directory."""
        return self._token_file.read_text(encoding="ascii").strip()

    def coderctl(self, *arguments: str, input: str | None = None) -> str:
        """Run ``coderctl`` on the server's host, as the admin sitting there; its stdout."""
        where = ["--url", self._url(self._near) + self._pin, "--token-file", f"{self.state_dir}/admin-token"]
        accepting = ["--insecure"] if self.url.startswith("http:") else []
        return self.host.run(["coderctl", *arguments, *where, *accepting], input=input).stdout

    def share(self, workspace: str, user: str, token: str) -> None:
        """Shares a workspace of the admin's, all of it, with the user of ``token``, who accepts it."""
        self.coderctl("share", workspace, "--with", user, "--ports", "all", "--terminal")
        where = ["--url", self._url(self._near) + self._pin, "--token-file", "-"]
        accepting = ["--insecure"] if self.url.startswith("http:") else []
        self.host.run(["coderctl", "shares", "accept", f"admin/{workspace}", *where, *accepting], input=token)

    def create_workspace(self, name: str) -> str:
        """Create a workspace, and return the token that lets its machine join."""
        created = json.loads(self.coderctl("workspaces", "create", name, "--json"))
        return str(created["token"])

    def run(self, argv: Sequence[str], **options: Any) -> str:
        """Run any program on the server's host; its stdout."""
        return self.host.run(argv, **options).stdout
