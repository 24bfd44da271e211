"""One server's database: a connection pool, transactions, and the schema brought up to date.

Every call blocks.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection

from coderd.identity.policy import Terms
from coderd.model import RandomBytes
from coderd.model.quotas import Quotas

MIGRATIONS = Path(__file__).parent / "migrations"

PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
"""FULL: what was acknowledged, a revocation say, survives a power cut too."""


_REVISION = sa.table("alembic_version", sa.column("version_num"))


class NewerSchema(Exception):
    """The database has the schema of a newer program, which this one does not know."""


class Database:
    """Opens and migrates. Raises NewerSchema, OSError or SQLAlchemyError where it cannot.

    Args:
        path: the SQLite file; made, readable by us alone, if it is missing.
        rng: randomness for tokens and ids.
        clock: wall-clock seconds.
        terms: how long what is let in may stay.
        quotas: how much one user may have.
    """

    def __init__(
        self,
        path: Path,
        *,
        rng: RandomBytes = os.urandom,
        clock: Callable[[], float] = time.time,
        terms: Terms | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        self.rng = rng
        self.now = clock
        self.terms = terms or Terms()
        self.quotas = quotas or Quotas()
        self.n_changes = 0
        """Another number after every commit of ours; what other programs write does not count."""
        self._engine = _open_engine(path)
        self._watcher = sqlite3.connect(path, check_same_thread=False)
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes every connection to the database."""
        self._watcher.close()
        self._engine.dispose()

    def new_id(self) -> UUID:
        """Returns a random id for a user, a node or a share (RFC 9562 §5.4, version 4)."""
        return UUID(bytes=self.rng(16), version=4)

    def data_version(self) -> int:
        """Returns a number that differs after every commit, by this or another program.

        Call it from one thread at a time; takes microseconds.
        """
        (found,) = self._watcher.execute("PRAGMA data_version").fetchone()
        return int(found)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Begins a transaction that only reads."""
        reader = self._engine.connect().execution_options(unix_now=self.now())
        with reader as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Begins a transaction that takes the write lock at once.

        It is committed when the block ends without an error.
        """
        writer = self._engine.connect().execution_options(takes_write_lock=True, unix_now=self.now())
        try:
            with writer as connection, connection.begin():
                yield connection
        finally:
            self.n_changes += 1

    def _migrate(self) -> None:
        known = known_revisions()
        with self.write() as connection:
            revision = _revision(connection)
            if revision is not None and revision not in known:
                raise NewerSchema(revision)
            if revision != max(known):
                _upgrade(connection)


def unix_now(connection: Connection) -> float:
    """Returns the moment, in wall-clock seconds, as of which a transaction reads what expires."""
    moment: float = connection.get_execution_options()["unix_now"]
    return moment


def known_revisions() -> set[str]:
    """Returns the schemas that this program can bring up to date, by the files' names.

    The greatest is its own.
    """
    return {path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py")}


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(_REVISION.name):
        return None
    found: str | None = connection.execute(sa.select(_REVISION.c.version_num)).scalar_one_or_none()
    return found


def _upgrade(connection: Connection) -> None:
    """Brings the schema up to date.

    Alembic is imported for it alone: a start that has nothing to migrate is quicker.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise sa.exc.InvalidRequestError("the schema cannot be brought up to date") from error


def _open_engine(path: Path) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": 30}, max_overflow=20
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's late one
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("takes_write_lock", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
