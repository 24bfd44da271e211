"""The socket at which ``wg`` and ``wg-quick`` find a userspace WireGuard.

Its path is ``/var/run/wireguard/<interface>.sock``.

Every process that can connect can read the private key; only the file's mode, 0700, protects it. ``wg``
removes sockets that refuse a connection, so this one listens as soon as it has a name. Since ``wg`` removes
no others, a socket file that disappears is a request to end.
"""

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from coderd.model.errors import MalformedPacket, UserError
from coderd.wireguard.uapi import Request, RequestReader

DIRECTORY = Path("/var/run/wireguard")
BACKLOG = 64
MAX_CONNECTIONS = 64
"""Served at once; more wait their turn."""
REQUEST_TIMEOUT = 30.0
"""Seconds that the rest of a request, or the taking of a reply, may pause for."""
READ_SIZE = 65536

_UMASK = 0o077


@contextmanager
def bound_socket(interface: str, directory: Path = DIRECTORY) -> Iterator[socket.socket]:
    """Opens an interface's listening socket, and removes its file at the end.

    Raises: UserError where it cannot be made, or another daemon answers there.
    """
    path = socket_path(interface, directory)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        mask = os.umask(0o022)
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            _remove_stale(path)
            os.umask(_UMASK)
            listening.bind(os.fspath(path))
            listening.listen(BACKLOG)
            made = path.lstat()
        except OSError as error:
            raise UserError(
                f"the socket for wg, {path}, cannot be made: {error.strerror}", code="no_uapi_socket"
            ) from None
        finally:
            os.umask(mask)
        try:
            yield listening
        finally:
            with suppress(OSError):
                if os.path.samestat(path.lstat(), made):
                    path.unlink()


def socket_path(interface: str, directory: Path = DIRECTORY) -> Path:
    """Returns the path at which ``wg`` looks for an interface's daemon."""
    return directory / f"{interface}.sock"


async def serve_uapi(listening: socket.socket, answer: Callable[[Request], bytes]) -> None:
    """Answers requests until cancelled.

    Args:
        listening: from ``bound_socket``.
        answer: does what a request asks, at once and as a whole, and returns the reply.
    """
    listening.setblocking(False)
    limiter = trio.CapacityLimiter(MAX_CONNECTIONS)

    async def converse(stream: trio.SocketStream) -> None:
        async with limiter:
            await _converse(stream, answer)

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    await trio.serve_listeners(converse, [listener])


async def _converse(stream: trio.SocketStream, answer: Callable[[Request], bytes]) -> None:
    """Serves one connection.

    A malformed or broken-off request gets no reply; ``wg`` often connects only to see whether the daemon
    lives.
    """
    reader = RequestReader()
    with suppress(MalformedPacket, trio.BrokenResourceError, trio.TooSlowError):
        while True:
            timeout = float("inf") if reader.is_between_requests else REQUEST_TIMEOUT
            with trio.fail_after(timeout):
                data = await stream.receive_some(READ_SIZE)
            requests = reader.feed(data) if data else filter(None, [reader.finish()])
            for request in requests:
                with trio.fail_after(REQUEST_TIMEOUT):
                    await stream.send_all(answer(request))
            if not data:
                return


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its backlog is full: a process owns it
            pass
    raise UserError(
        f"another WireGuard daemon already answers on {path}",
        hint=f"Stop it first, or choose another interface name than {path.stem}.",
        code="already_running",
    )
