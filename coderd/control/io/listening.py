"""Making the control socket's file: a dead daemon's is replaced, a living one's is respected."""

import grp
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from coderd.model.errors import Exit, UserError

SOCKET_MODE = 0o666
"""Anyone may connect: who may do what is decided by the kernel's word on who connected."""
BACKLOG = 4096
"""Connections that wait to be accepted. Who finds it full waits as well, and is woken in turn (unix(7))."""
MAX_PATH = 107
"""Bytes of a UNIX socket's path (``sun_path`` less its NUL)."""


def group_id(name: str) -> int | None:
    """Returns a group's number, None where the machine has no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


@contextmanager
def bound_socket(path: Path) -> Iterator[socket.socket]:
    """Binds a listening UNIX socket at ``path``; removes its file at the end, unless it was replaced.

    Raises:
        UserError: the path is too long, cannot be written, or belongs to something that lives.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise UserError(
            f"the control socket's path is longer than {MAX_PATH} bytes: {path}",
            exit_code=Exit.USAGE,
            hint="Choose a shorter one with --socket.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _remove_stale(path)
            listening.bind(os.fsencode(path))
            path.chmod(SOCKET_MODE)
            listening.listen(BACKLOG)
            made = path.lstat()
        except OSError as error:
            raise UserError(
                f"the control socket {path} cannot be made: {error.strerror}",
                hint="Start the daemon as root, or choose another path with --socket.",
                code="no_control_socket",
            ) from None
        try:
            yield listening
        finally:
            _remove_own(path, made)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(
            f"{path} exists and is not a socket, so the daemon does not replace it",
            hint="Move it away, or choose another path with --socket.",
            code="no_control_socket",
        )
    if _is_alive(path):
        raise UserError(
            f"another daemon already listens on {path}",
            hint="Stop it first, or give this one its own --socket, --interface and --state-dir.",
            code="already_running",
        )
    path.unlink()


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fsencode(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # its backlog is full, so a process listens
            return True
    return True


def _remove_own(path: Path, made: os.stat_result) -> None:
    with suppress(OSError):
        if os.path.samestat(path.lstat(), made):
            path.unlink()
