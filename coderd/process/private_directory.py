"""State directory of mode 0700, locked by one process; each file has mode 0600 and is replaced as a whole.

Modes do not depend on the umask. What other users may have put there is refused: another user's directory,
one that group or others may write to, one below a directory in which others may rename entries
(world-writable without the sticky bit), and another user's file.
"""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Self

from coderd.model.errors import UserError

LOCK_FILE = "lock"
"""Name of the file in a state directory that its process locks (flock(2))."""
MAX_FILE_SIZE = 64 * 1024
"""Bytes that ``PrivateDirectory.read`` returns at most where no other limit is given."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class PrivateDirectory:
    """State directory held under an exclusive lock for as long as it is open.

    Args:
        directory: created if it is missing.
        may_be_anothers: whether the directory and its files may belong to another user: root writes to the
            directory of a server that runs as another user.
        user: the program that uses the directory, for error messages.
        hint: what else to change where another process holds the lock, for error messages.

    Raises:
        UserError: the directory cannot be created, is refused, or is locked by another process.
    """

    def __init__(
        self,
        directory: Path,
        *,
        may_be_anothers: bool = False,
        user: str = "server",
        hint: str = "its own --state-dir",
    ) -> None:
        self._directory = directory
        self._may_be_anothers = may_be_anothers
        self._lock = _Opening(directory, may_be_anothers, user, hint).lock()

    def path(self, name: str) -> Path:
        """Returns the path of a file in the directory, whether the file exists or not."""
        return self._directory / name

    def read(self, name: str, limit: int = MAX_FILE_SIZE) -> bytes:
        """Returns a regular file's content, cut off at ``limit`` bytes.

        Raises:
            FileNotFoundError: there is no such file.
            UserError: the file is not regular, belongs to another user, or cannot be read.
        """
        return _read(self.path(name), limit, self._may_be_anothers)

    def write(self, name: str, data: bytes) -> None:
        """Replaces a file atomically and durably (fsync(2)), with mode 0600.

        Raises:
            UserError: the file cannot be written.
        """
        write_private(self.path(name), data)

    def close(self) -> None:
        """Closes the lock file's descriptor, which releases the lock."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Opening:
    """Creation, checks and locking of a state directory."""

    def __init__(self, directory: Path, may_be_anothers: bool, user: str, hint: str) -> None:
        self._directory = directory
        self._may_be_anothers = may_be_anothers
        self._user = user
        self._hint = hint

    def lock(self) -> int:
        """Creates the directory if it is missing, sets its mode to 0700 and returns its lock's descriptor.

        Raises:
            UserError: the directory cannot be used, is refused, or is locked by another process.
        """
        try:
            _make(self._directory)
            self._check()
            self._directory.chmod(0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(self._directory / LOCK_FILE, flags, 0o600)
            with suppress(PermissionError):  # another user's lock file, which holds no data
                os.fchmod(lock, 0o600)
        except OSError as error:
            raise self._unusable(
                f"cannot be used: {error.strerror}",
                f"Run the {self._user} as its owner, or name another directory with --state-dir.",
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UserError(
                f"another {self._user} uses the state directory {self._directory}",
                hint=f"Stop it first, or give this one {self._hint}.",
                code="state_locked",
            ) from None
        return lock

    def _check(self) -> None:
        """Checks that no other user owns the directory, can write to it or can put another one in its place.

        The content of such a directory may be forged, and setting its mode to 0700 would close /tmp, for
        example, to others.

        Raises:
            UserError: another user does or can.
        """
        status = self._directory.stat()
        hint = f"Name a directory of the {self._user}'s own with --state-dir."
        if status.st_uid != os.geteuid() and not self._may_be_anothers:
            raise self._unusable("belongs to another user, and can be written by others", hint)
        if status.st_mode & _OTHERS_WRITE:
            raise self._unusable("can be written by others", hint)
        for parent in self._directory.resolve().parents:
            mode = parent.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise self._unusable(f"lies in {parent}, where others can put another in its place", hint)

    def _unusable(self, why: str, hint: str) -> UserError:
        return UserError(f"the state directory {self._directory} {why}", hint=hint, code="state_unusable")


def _make(directory: Path) -> None:
    """Creates a directory with mode 0700 and its missing parents with mode 0755, whatever the umask."""
    if directory.is_dir():
        return
    if not directory.parent.is_dir():
        _make(directory.parent)
        directory.parent.chmod(0o755)
    with suppress(FileExistsError):
        directory.mkdir(0o700)
        directory.chmod(0o700)


def _read(path: Path, limit: int, may_be_anothers: bool) -> bytes:
    """Returns a regular file's content, cut off at ``limit`` bytes; does not follow a symbolic link.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is not regular, belongs to another user, or cannot be read.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{path} is not a regular file", code="state_unreadable")
            if status.st_uid not in (os.geteuid(), 0) and not may_be_anothers:
                raise UserError(
                    f"{path} belongs to another user, who may know its content",
                    hint="Remove it, or make it this user's with chown if you know where it comes from.",
                    code="state_unreadable",
                )
            return file.read(limit)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", code="state_unreadable") from None


def write_private(path: Path, data: bytes) -> None:
    """Replaces a file atomically and durably (fsync(2)), with mode 0600.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        _replace(path, data)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}",
            hint="See whether the disk is full, and which user owns the directory.",
            code="state_unwritable",
        ) from None


def _replace(path: Path, data: bytes) -> None:
    """Writes and syncs a temporary file, renames it to ``path``, and syncs the directory."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(temporary, flags, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
