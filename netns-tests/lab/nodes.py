"""``coderd run`` on the hosts of a laboratory, used as people use it: by its commands alone."""

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

from lab.host import Host
from lab.process import LabError, Process, ProgramFailed
from lab.waiting import until


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
        self.start("--access-url", url, *self.accepting(url), "--token-file", self.token_file, *arguments)

    def join_as_user(self, url: str, token: str, *arguments: str) -> None:
        """Start the daemon, and enrol it as a person does, the token by stdin."""
        self.start(*arguments)
        self.coderctl("up", url, *self.accepting(url), "--token-file", "-", input=token + "\n")

    @staticmethod
    def accepting(url: str) -> list[str]:
        """What a person adds who knows that nobody in the laboratory reads tokens along."""
        return ["--insecure"] if url.startswith("http:") else []

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
        """The result of one request to its control socket, in no more time than the daemon takes.

        Raises OSError without one.
        """
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
