"""A blocking TCP stream to a service of a peer, through the peer's node API."""

import socket
from collections.abc import Callable
from pathlib import Path

from coderd.control.io.client import ControlClient
from coderd.control.messages import NC, DialParams, DialTarget
from coderd.model.addresses import PORT_NODE_API
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.peerapi.io.blocking import ask
from coderd.peerapi.message import DialRequest, Request, TerminalRequest, parse_dial_reply

TIMEOUT = 15.0


def open_peer_stream(control: Path, peer: str, port: int) -> socket.socket:
    """Connects to a port of a peer, also to one that listens only on the peer's loopback.

    Raises UserError.
    """
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
    try:
        parse_dial_reply(ask(sock, request, TIMEOUT))
    except OSError as error:
        raise unreachable(target.name, error) from None
    except MalformedPacket:
        raise unreachable(target.name, ConnectionError("its answer is invalid")) from None


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
