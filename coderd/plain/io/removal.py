"""Waiting for a file to go away, by inotify.

Python has no word for it, so it is two functions of the C library.
"""

import ctypes
import os
from pathlib import Path

import trio

_IN_ATTRIB, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x004, 0x400, 0x800
_IN_CLOEXEC, _IN_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK
_EVENTS = _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF
"""Removing the last name of a file that is still open is a change of its attributes."""
_READ_SIZE = 65536

_libc = ctypes.CDLL(None, use_errno=True)


async def wait_removed(path: Path) -> None:
    """Returns when the file that ``path`` names now is there no more, or is another."""
    watch = _checked(_libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK))
    try:
        made = _begin(watch, path)
        while made is not None and _is_still(path, made):
            await trio.lowlevel.wait_readable(watch)
            os.read(watch, _READ_SIZE)
    finally:
        os.close(watch)


def _begin(watch: int, path: Path) -> os.stat_result | None:
    try:
        _checked(_libc.inotify_add_watch(watch, os.fsencode(path), _EVENTS))
        return path.lstat()
    except FileNotFoundError:
        return None


def _is_still(path: Path, made: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), made)
    except FileNotFoundError:
        return False


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
