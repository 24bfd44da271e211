"""The server's state directory: mode 0700, locked by one server, every file 0600 and replaced as a whole.

    keys.json     relay key and coordination key
    identity.db   users, nodes, tokens (by hash), node keys
    admin-token   the first admin's session token, until somebody removes it
    tls.pem       the certificate that the server made for itself, and its key

A damaged key file means refusing to start: a server that made itself new keys would be somebody else to its nodes.
"""

import fcntl
import os
import stat
from pathlib import Path
from typing import Self

import msgspec

from coderd.config.tls import CertificateFiles
from coderd.http.self_signed import make_certificate
from coderd.http.tls import is_certificate_for
from coderd.model.errors import UserError
from coderd.model.keys import NodePrivate, ServerPrivate

KEYS_FILE = "keys.json"
DATABASE_FILE = "identity.db"
ADMIN_TOKEN_FILE = "admin-token"
LOCK_FILE = "lock"
TLS_FILE = "tls.pem"
MAX_KEYS_SIZE = 4096


class _Keys(msgspec.Struct, frozen=True):
    relay_key: str
    coordination_key: str

    def __repr__(self) -> str:
        return "<_Keys redacted>"


class StateDirectory:
    """The only user of a state directory, for as long as it is open. Raises UserError if it cannot be used.

    Attributes:
        relay_key: the embedded relay's.
        coordination_key: seals challenges and resume tokens.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = _lock(directory)
        try:
            keys = self._load_keys()
        except BaseException:
            os.close(self._lock)
            raise
        self.relay_key, self.coordination_key = keys

    @property
    def database(self) -> Path:
        """The identities' file."""
        return self._directory / DATABASE_FILE

    @property
    def admin_token_file(self) -> Path:
        """Where the first admin finds the token."""
        return self._directory / ADMIN_TOKEN_FILE

    def write_admin_token(self, token: str) -> None:
        """Leaves the first admin's token in its file."""
        _write(self.admin_token_file, f"{token}\n".encode())

    def own_certificate(self, host: str) -> CertificateFiles:
        """The certificate that the server made for itself: made now if there is none, or only one for another host."""
        path = self._directory / TLS_FILE
        if not path.exists() or not is_certificate_for(path, host):
            _write(path, make_certificate(host))
        return CertificateFiles(path, path)

    def close(self) -> None:
        """Gives the directory up."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load_keys(self) -> tuple[ServerPrivate, NodePrivate]:
        path = self._directory / KEYS_FILE
        try:
            data = _read(path)
        except FileNotFoundError:
            relay, coordination = ServerPrivate.generate(os.urandom), NodePrivate.generate(os.urandom)
            _write(path, msgspec.json.encode(_Keys(relay.secret_text(), coordination.secret_text())))
            return relay, coordination
        try:
            keys = msgspec.json.decode(data, type=_Keys)
            return ServerPrivate.parse(keys.relay_key), NodePrivate.parse(keys.coordination_key)
        except ValueError:
            raise UserError(
                f"{path} is damaged",
                hint="Restore it from a backup, or remove it: every node then reconnects to a new relay key.",
                code="state_damaged",
            ) from None


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close_to_others(directory)
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


def _close_to_others(directory: Path) -> None:
    """Mode 0700, unless the directory is not ours alone: /tmp, say, would break for everybody else. Raises UserError."""
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
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
            return file.read(MAX_KEYS_SIZE)
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
