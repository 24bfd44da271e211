"""A state directory: mode 0700, locked by one process, every file 0600 and replaced as a whole."""

import fcntl
import os
import stat
from pathlib import Path
from typing import Self

from coderd.model.errors import UserError

LOCK_FILE = "lock"
MAX_FILE_SIZE = 64 * 1024


class PrivateDirectory:
    """The only user of a state directory, for as long as it is open. Raises UserError if it cannot be used.

    Args:
        directory: made if it is missing.
        may_be_anothers: root puts something into the directory of a server that runs as somebody else.
    """

    def __init__(self, directory: Path, *, may_be_anothers: bool = False) -> None:
        self._directory = directory
        self._lock = _lock(directory, may_be_anothers)

    def path(self, name: str) -> Path:
        """Where a file of this name is, or would be."""
        return self._directory / name

    def read(self, name: str) -> bytes:
        """A regular file's content, of up to MAX_FILE_SIZE bytes. Raises FileNotFoundError, or UserError for anything else."""
        return _read(self.path(name))

    def write(self, name: str, data: bytes) -> None:
        """Replaces a file atomically and durably. Raises UserError."""
        _write(self.path(name), data)

    def close(self) -> None:
        """Gives the directory up."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock(directory: Path, may_be_anothers: bool) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close_to_others(directory, may_be_anothers)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(directory / LOCK_FILE, flags, 0o600)
    except OSError as error:
        raise UserError(
            f"the state directory {directory} cannot be used: {error.strerror}",
            hint="Run the server as its owner, or name another directory with --state-dir.",
            code="state_unusable",
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UserError(
            f"another server uses the state directory {directory}",
            hint="Stop it first, or give this one its own --state-dir.",
            code="state_locked",
        ) from None
    return lock


def _close_to_others(directory: Path, may_be_anothers: bool) -> None:
    """Mode 0700, unless the directory is not ours alone: /tmp, say, would break for everybody else. Raises UserError."""
    status = directory.stat()
    is_ours = status.st_uid == os.geteuid() or may_be_anothers
    if not is_ours or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UserError(
            f"the state directory {directory} can be written by others",
            hint="Name a directory of the server's own with --state-dir.",
            code="state_unusable",
        )
    directory.chmod(0o700)


def _read(path: Path) -> bytes:
    """A regular file's content. Raises FileNotFoundError, or UserError for anything else."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{path} is no regular file", code="state_unreadable")
            return file.read(MAX_FILE_SIZE)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", code="state_unreadable") from None


def _write(path: Path, data: bytes) -> None:
    """Replaces a file atomically and durably. Raises UserError."""
    try:
        _replace(path, data)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}",
            hint="See whether the disk is full, and whose directory it is.",
            code="state_unwritable",
        ) from None


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
