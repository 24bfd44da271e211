"""``coderctl nc``: a TCP service of a workspace on stdin and stdout, as OpenSSH's ProxyCommand wants it."""

import os
import socket
import threading
from typing import Annotated

import typer

from coderd.cli.options import SOCKET, Socket, Workspace
from coderd.cli.peer_stream import open_peer_stream
from coderd.model.errors import Exit, UserError

CHUNK = 1 << 16
STDIN, STDOUT = 0, 1


def nc(
    workspace: Workspace,
    port: Annotated[
        int, typer.Argument(metavar="PORT", min=1, max=65535, help="A TCP port of the workspace.")
    ],
    socket: Socket = SOCKET,
) -> int:
    """Connect stdin and stdout to a TCP port of a workspace, also to one that listens only on its loopback.

    Examples:
      coderctl nc dev 8080
      ssh -o ProxyCommand='coderctl nc %h %p' dev
    """
    with open_peer_stream(socket, workspace, port) as stream:
        threading.Thread(target=_pump_in, args=(stream,), daemon=True).start()
        return _pump_out(stream, workspace)


def _pump_in(stream: socket.socket) -> None:
    """Copies stdin to the service, and its end: the service may still answer."""
    try:
        while chunk := os.read(STDIN, CHUNK):
            stream.sendall(chunk)
        stream.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other direction has ended, and says why


def _pump_out(stream: socket.socket, workspace: str) -> int:
    """Copies the service to stdout until it ends."""
    while True:
        try:
            chunk = stream.recv(CHUNK)
        except OSError as error:
            raise UserError(f"the connection to {workspace} broke: {error.strerror}") from None
        if not chunk:
            return Exit.DONE
        _write_all(chunk)


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(STDOUT, view) :]
