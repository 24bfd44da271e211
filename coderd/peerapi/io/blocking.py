"""The caller's end of the node API without trio: its import would cost a command a tenth of a second."""

import socket
import time

from coderd.peerapi.line_reader import LineReader
from coderd.peerapi.message import Request, encode


def ask(sock: socket.socket, request: Request, timeout: float) -> bytes:
    """Sends a request, and reads the reply's line and no byte behind it: those are the service's.

    Args:
        sock: a connected socket; it blocks without a timeout afterwards.
        request: what to ask for.
        timeout: seconds for all of it.

    Raises:
        OSError: the connection broke; a TimeoutError if the reply is late.
        MalformedPacket: the reply is too long, or ends before its line does.
    """
    deadline = time.monotonic() + timeout
    reader = LineReader()
    sock.settimeout(timeout)
    sock.sendall(encode(request))
    while reader.line is None:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        sock.recv(reader.take(sock.recv(reader.n_missing, socket.MSG_PEEK)))
    sock.settimeout(None)
    return reader.line
