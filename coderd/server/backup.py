"""Backup of a server's whole state in one file, made while the server runs, and its restoration.

    backup.tar (0600)
      manifest.json   format, program's version, schema, time, and size and SHA-256 of each file that follows
      identity.db     a consistent copy of the database, by SQLite's backup API
      keys.json, tls.pem, admin-token, ...   as they are

The file holds private keys and the hashes of all tokens: its holder can impersonate the server. Certificates
that options name outside of the state directory are not in it.
"""

import hashlib
import io
import os
import re
import shutil
import sqlite3
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from coderd import __version__
from coderd.identity.io.database import known_revisions
from coderd.model.errors import Exit, UserError
from coderd.process.private_directory import LOCK_FILE, PrivateDirectory
from coderd.server.state import DATABASE_FILE, KEYS_FILE

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
MAX_FILES: Final = 32
MAX_SMALL_FILE: Final = 1 << 20
MAX_DATABASE: Final = 1 << 36
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z]+)?", re.ASCII)
_PIECE: Final = 1 << 20
_UNPACKED: Final = "restore.tmp"


class _File(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class _Manifest(msgspec.Struct, frozen=True):
    format: int
    version: str
    schema: str
    made_at: float
    files: dict[str, _File]


def make_backup(state_dir: Path, target: Path) -> None:
    """Writes a backup; replaces a file at ``target`` once the new one is complete. Raises UserError."""
    database = state_dir / DATABASE_FILE
    if not database.is_file():
        raise UserError(
            f"there is no server's state in {state_dir}",
            hint="Name its directory with --state-dir, and run this as the server's user.",
            code="no_state",
        )
    fresh, copy = (target.with_name(f".{target.name}.{os.getpid()}.{kind}") for kind in ("tar", "db"))
    try:
        _write_backup(state_dir, database, fresh, copy)
        fresh.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"the backup {target} cannot be made: {getattr(error, 'strerror', None) or error}",
            hint="Run this as the server's user or root, and see that there is room.",
            code="backup_failed",
        ) from None
    finally:
        fresh.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)


def restore_backup(source: Path, state_dir: Path, *, force: bool = False) -> str:
    """Replaces a state directory's content by a backup; returns the version of coderd that made the backup.

    Unpacks and checks everything before it replaces anything.

    Raises:
        UserError: a server runs there, the directory has a state and ``force`` is not given, or the backup is
            unusable.
    """
    with PrivateDirectory(state_dir, may_be_anothers=os.geteuid() == 0) as directory:
        if not force and (state_dir / KEYS_FILE).exists():
            raise UserError(
                f"there is a server's state in {state_dir} already",
                exit_code=Exit.USAGE,
                hint="Give another --state-dir, or --force to replace it: what it holds is then gone.",
                code="state_exists",
            )
        unpacked = directory.path(_UNPACKED)
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir(mode=0o700)
        try:
            manifest = _unpack(source, unpacked)
            _check_database(source, unpacked / DATABASE_FILE)
            _put_in_place(state_dir, unpacked)
        except (OSError, tarfile.TarError, EOFError) as error:
            raise _unusable(source, getattr(error, "strerror", None) or str(error)) from None
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
    return manifest.version


def _write_backup(state_dir: Path, database: Path, fresh: Path, copy: Path) -> None:
    schema = _copy_database(database, copy)
    paths = {DATABASE_FILE: copy}
    for path in sorted(state_dir.iterdir()):
        is_ours = _NAME.fullmatch(path.name) and path.name not in (DATABASE_FILE, LOCK_FILE)
        if is_ours and path.is_file() and not path.is_symlink() and path.suffix != ".tmp":
            paths[path.name] = path
    files = {name: _describe(path) for name, path in paths.items()}
    manifest = _Manifest(FORMAT, __version__, schema, time.time(), files)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            data = msgspec.json.encode(manifest)
            tar.addfile(_entry(MANIFEST, len(data)), io.BytesIO(data))
            for name, path in paths.items():
                with path.open("rb") as content:
                    tar.addfile(_entry(name, files[name].size), content)
        file.flush()
        os.fsync(file.fileno())


def _copy_database(database: Path, copy: Path) -> str:
    """Copies a consistent state of the database while others write to it; returns its schema's revision."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with (
        closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
        return _revision(target)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def _describe(path: Path) -> _File:
    with path.open("rb") as file:
        return _File(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _unpack(source: Path, directory: Path) -> _Manifest:
    """Unpacks only the files that the manifest names. Raises UserError, OSError, tarfile.TarError."""
    with source.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        manifest = _read_manifest(source, tar)
        for name, expected in manifest.files.items():
            entry = tar.next()
            if entry is None or entry.name != name or not entry.isreg() or entry.size != expected.size:
                raise _unusable(source, f"{name} is not where the manifest has it")
            content = tar.extractfile(entry)
            assert content is not None, "it is a regular file"
            descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            digest = hashlib.sha256()
            with os.fdopen(descriptor, "wb") as target:
                while piece := content.read(_PIECE):
                    digest.update(piece)
                    target.write(piece)
                target.flush()
                os.fsync(target.fileno())
            if digest.hexdigest() != expected.sha256:
                raise _unusable(source, f"{name} is damaged")
    return manifest


def _read_manifest(source: Path, tar: tarfile.TarFile) -> _Manifest:
    entry = tar.next()
    if entry is None or entry.name != MANIFEST or not entry.isreg() or entry.size > MAX_SMALL_FILE:
        raise _unusable(source, "it is not a backup of a coderd server")
    content = tar.extractfile(entry)
    assert content is not None, "it is a regular file"
    try:
        manifest = msgspec.json.decode(content.read(MAX_SMALL_FILE), type=_Manifest)
    except (msgspec.DecodeError, RecursionError):
        raise _unusable(source, "its manifest cannot be read") from None
    if manifest.format != FORMAT:
        raise _unusable(source, f"its format is {manifest.format}, and this program knows {FORMAT}")
    has_all = {DATABASE_FILE, KEYS_FILE} <= manifest.files.keys()
    if (
        not has_all
        or len(manifest.files) > MAX_FILES
        or not all(_is_allowed(name, file) for name, file in manifest.files.items())
    ):
        raise _unusable(source, "its manifest names files that no server has")
    return manifest


def _is_allowed(name: str, file: _File) -> bool:
    limit = MAX_DATABASE if name == DATABASE_FILE else MAX_SMALL_FILE
    return _NAME.fullmatch(name) is not None and name != LOCK_FILE and 0 <= file.size <= limit


def _check_database(source: Path, database: Path) -> None:
    try:
        with closing(sqlite3.connect(database)) as connection:
            verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
            revision = _revision(connection)
    except sqlite3.Error as error:
        raise _unusable(source, f"its database cannot be read ({error})") from None
    if verdict != "ok":
        raise _unusable(source, "its database is damaged")
    if revision not in known_revisions():
        raise UserError(
            f"the backup {source} was made by a newer coderd (schema {revision})",
            hint="Restore it with that coderd.",
            code="newer_schema",
        )


def _revision(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def _put_in_place(state_dir: Path, unpacked: Path) -> None:
    """Removes the old files, then moves the new ones in.

    In this order: the old database's write-ahead log must not be applied to the new database.
    """
    for path in state_dir.iterdir():
        if path.name not in (LOCK_FILE, _UNPACKED) and not path.is_dir():
            path.unlink()
    for path in unpacked.iterdir():
        path.replace(state_dir / path.name)
    owner = state_dir.stat()
    if owner.st_uid != os.geteuid():  # restored by root for a server that runs as another user
        for path in state_dir.iterdir():
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(source: Path, why: str) -> UserError:
    return UserError(
        f"the backup {source} cannot be used: {why}",
        hint="Nothing was replaced. Take another backup.",
        code="bad_backup",
    )
