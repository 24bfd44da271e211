"""A blocking TCP stream to a service of a peer, through the peer's node API."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

from coderd.control.io.client import ControlClient
from coderd.control.messages import NC, DialParams, DialTarget
from coderd.model.addresses import PORT_NODE_API
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.peerapi.message import MAX_LINE, DialRequest, Request, TerminalRequest, encode, parse_dial_reply

TIMEOUT = 15.0


def open_peer_stream(control: Path, peer: str, port: int) -> socket.socket:
    """Connects to a port of a peer, also to one that listens only on the peer's loopback. Raises UserError."""
    return _open(control, peer, port, lambda secret: DialRequest(port=port, secret=secret))


def open_terminal_stream(control: Path, peer: str) -> socket.socket:
    """Connects to a peer's terminal service, which speaks ``terminal.frames``. Raises UserError."""
    return _open(control, peer, PORT_NODE_API, lambda secret: TerminalRequest(secret=secret))


def _open(control: Path, peer: str, port: int, request: Callable[[str], Request]) -> socket.socket:
    with ControlClient(control) as client:
        target = client.call(NC, DialParams(peer=peer, port=port))
    sock = _dial(target)
    try:
        _ask(sock, target, request(target.secret))
    except BaseException:
        sock.close()
        raise
    return sock


def _dial(target: DialTarget) -> socket.socket:
    try:
        return socket.create_connection((target.address, target.api_port), timeout=TIMEOUT)
    except OSError as error:
        raise unreachable(target.name, error) from None


def _ask(sock: socket.socket, target: DialTarget, request: Request) -> None:
    """Asks for a port or a terminal, and reads no byte beyond the reply: what follows belongs to the caller."""
    deadline = time.monotonic() + TIMEOUT
    line = b""
    try:
        sock.sendall(encode(request))
        while not line.endswith(b"\n") and len(line) < MAX_LINE:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            ahead = sock.recv(MAX_LINE - len(line), socket.MSG_PEEK)
            if not ahead:
                break
            line += sock.recv(ahead.find(b"\n") + 1 or len(ahead))
        parse_dial_reply(line)
    except OSError as error:
        raise unreachable(target.name, error) from None
    except MalformedPacket:
        raise unreachable(target.name, ConnectionError("its answer is invalid")) from None
    sock.settimeout(None)


def unreachable(name: str, error: OSError) -> UserError:
    """Returns the error for a peer whose node API does not answer, or not validly."""
    if isinstance(error, TimeoutError):
        return UserError(
            f"{name} did not answer in time",
            exit_code=Exit.TIMED_OUT,
            hint="Look at the path with: coderctl status",
            code="timed_out",
        )
    return UserError(
        f"{name} cannot be reached: {error.strerror or error}",
        exit_code=Exit.NO_PATH,
        hint="Look at the path with: coderctl status",
        code="no_path",
    )
