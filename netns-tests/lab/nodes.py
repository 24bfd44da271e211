"""coderd on the hosts of a laboratory, run as people run it: by its commands alone."""

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

from lab.front import start_front
from lab.gate import HTTP_PORT
from lab.host import Host
from lab.process import LabError, Process, ProgramFailed
from lab.topology import Front
from lab.waiting import until

BEHIND = ("127.0.0.1", 3001)
"""Where the server itself listens when something else takes its connections."""


class Server:
    """``coderd server`` on a host."""

    def __init__(self, host: Host, address: str, *, front: Front = "none", is_gated: bool = False) -> None:
        self.host = host
        self._front: Front = front
        self.address = address
        self.url = _url(address)
        self._near = "127.0.0.1" if is_gated else address
        self.state_dir = "/run/coderd-server-state"
        self.daemon: Process | None = None

    def start(self, *arguments: str) -> None:
        """Start it, and wait until it answers and the first admin has a token."""
        argv = ["coderd", "server", "--access-url", self.url, "--state-dir", self.state_dir, *arguments]
        if self._front != "none":
            argv += ["--http-address", f"{BEHIND[0]}:{BEHIND[1]}"]
            start_front(self.host, self._front, (self.address, HTTP_PORT), BEHIND)
        daemon = self.daemon = self.host.start(argv, name="coderd server")

        def is_up() -> bool:
            if not daemon.is_running:
                raise LabError(f"the server ended {daemon.code}")
            return self._token_file.exists() and self.host.answers_tcp(self._near, HTTP_PORT)

        until(is_up, "the server to answer", timeout=30)

    @property
    def _token_file(self) -> Any:
        return self.host.path(f"{self.state_dir}/admin-token")

    @property
    def admin_token(self) -> str:
        """The first admin's token, as the server left it in its state directory."""
        return str(self._token_file.read_text(encoding="ascii")).strip()

    def coderctl(self, *arguments: str, input: str | None = None) -> str:
        """Run ``coderctl`` on the server's host, as the admin sitting there; its stdout."""
        where = ["--url", _url(self._near), "--token-file", f"{self.state_dir}/admin-token"]
        return self.host.run(["coderctl", *arguments, *where], input=input).stdout

    def create_workspace(self, name: str) -> str:
        """Create a workspace, and return the token that lets its machine join."""
        created = json.loads(self.coderctl("workspaces", "create", name, "--json"))
        return str(created["token"])

    def run(self, argv: Sequence[str], **options: Any) -> str:
        """Run any program on the server's host; its stdout."""
        return self.host.run(argv, **options).stdout


def _url(address: str) -> str:
    shown = f"[{address}]" if ":" in address else address
    return f"http://{shown}:{HTTP_PORT}"


class Node:
    """``coderd run`` on a host, with a socket, a state directory and an interface of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name = host.name
        self.interface = f"coder-{host.name}"[:15]
        self.socket = f"/run/coderd-{host.name}/coderd.sock"
        self.state_dir = f"/run/coderd-{host.name}-state"
        self.token_file = f"/run/coderd-{host.name}-token"
        self.daemon: Process | None = None
        self._arguments: tuple[str, ...] = ()
        host.environment["CODERD_SOCKET"] = self.socket

    # ---- its daemon

    def start(self, *arguments: str) -> None:
        """Start the daemon with its usual options and these, and wait until its control socket answers."""
        self._arguments = arguments
        own = ["--interface", self.interface, "--socket", self.socket, "--state-dir", self.state_dir]
        self.host.path(self.socket).parent.mkdir(mode=0o755, exist_ok=True)
        self.daemon = self.host.start(["coderd", "run", *own, *arguments], name=f"coderd run on {self.name}")
        until(self._is_answering, f"the control socket of {self.name}", timeout=20)

    def _is_answering(self) -> bool:
        assert self.daemon is not None
        if not self.daemon.is_running:
            raise LabError(f"coderd on {self.name} ended {self.daemon.code}")
        try:
            return bool(self.ask("status"))
        except OSError:
            return False

    def join_as_workspace(self, url: str, token: str, *arguments: str) -> None:
        """Start the daemon as a workspace does, unattended."""
        self.put(self.token_file, token)
        self.start("--access-url", url, "--token-file", self.token_file, *arguments)

    def join_as_user(self, url: str, token: str, *arguments: str) -> None:
        """Start the daemon, and enrol it as a person does, the token by stdin."""
        self.start(*arguments)
        self.coderctl("up", url, "--token-file", "-", input=token + "\n")

    def kill(self) -> None:
        """SIGKILL the daemon."""
        assert self.daemon is not None
        self.daemon.kill()

    def restart(self) -> None:
        """Start the daemon again as it was started before."""
        self.start(*self._arguments)

    def forget_netmap(self) -> None:
        """Between two starts: let it know itself and nobody else, as at its first."""
        file = self.host.path(f"{self.state_dir}/node.json")
        state = json.loads(file.read_text(encoding="utf-8"))
        state.pop("netmap", None)
        file.write_text(json.dumps(state), encoding="utf-8")

    # ---- the host it runs on

    def run(self, argv: Sequence[str], **options: Any) -> str:
        """Run any program on its host; its stdout."""
        return self.host.run(argv, **options).stdout

    def put(self, path: str, secret: str) -> None:
        """Write a file on its host that its owner alone may read."""
        file = self.host.path(path)
        file.touch(mode=0o600)
        file.write_text(secret + "\n", encoding="utf-8")

    # ---- coderctl

    def coderctl(self, *arguments: str, input: str | None = None, timeout: float = 30.0) -> str:
        """Run ``coderctl`` against its daemon; its stdout. ProgramFailed when it ends non-zero."""
        return self.host.run(["coderctl", *arguments], input=input, timeout=timeout).stdout

    def json(self, *arguments: str, timeout: float = 30.0) -> dict[str, Any]:
        """The same with ``--json``, parsed."""
        parsed: dict[str, Any] = json.loads(self.coderctl(*arguments, "--json", timeout=timeout))
        return parsed

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        """The result of one request to its control socket, in no more time than the daemon takes. OSError without one."""
        request = json.dumps({"v": 1, "id": 1, "method": method, "params": params})
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5.0)
            sock.connect(str(self.host.path(self.socket)))
            sock.sendall(request.encode() + b"\n")
            with sock.makefile("rb") as lines:
                answer = json.loads(lines.readline() or b"{}")
        result: dict[str, Any] = answer.get("result", {})
        return result

    @property
    def address(self) -> str:
        """Its tailnet address, bare; empty before the server has given it one."""
        own = self.ask("status").get("self")
        return str(own["address"]).partition("/")[0] if own else ""

    def status(self) -> dict[str, Any] | None:
        """What its daemon says of itself; None while it cannot be asked. LabError when it has ended."""
        if self.daemon is not None and not self.daemon.is_running:
            raise LabError(f"coderd on {self.name} ended {self.daemon.code}")
        try:
            return self.json("status")
        except ProgramFailed as failure:
            if failure.code == 3:  # not reachable yet
                return None
            raise

    def peer(self, name: str) -> dict[str, Any] | None:
        """What it knows of a peer; None if nothing. A workspace may be asked for without its owner."""
        peers = (self.status() or {}).get("peers", [])
        return next((peer for peer in peers if name in (peer["name"], peer["name"].rpartition("/")[2])), None)

    def path_to(self, name: str) -> str:
        """``direct``, ``relay`` or ``none``: how it reaches a peer now."""
        peer = self.peer(name)
        return str(peer["path"]["kind"]) if peer else "none"

    # ---- waiting

    def wait_for_peer(self, name: str, *, timeout: float = 30.0) -> None:
        """Wait until a peer is online and has answered a ping."""
        deadline = time.monotonic() + timeout
        until(
            lambda: (self.peer(name) or {}).get("online"),
            f"{self.name} to see {name} online",
            timeout=timeout,
        )
        left = max(1.0, deadline - time.monotonic())
        until(lambda: self.pings(name), f"{name} to answer a ping of {self.name}", timeout=left)

    def pings(self, name: str) -> bool:
        """Whether one ping of a peer comes back."""
        return self.host.run(["coderctl", "ping", name, "-c", "1"], check=False).returncode == 0

    def wait_for_path(self, name: str, kind: str, *, timeout: float = 30.0) -> None:
        """Wait until a peer is reached this way."""
        until(lambda: self.path_to(name) == kind, f"{self.name} to reach {name} by {kind}", timeout=timeout)
