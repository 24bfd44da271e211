"""One server's database: a connection pool, transactions, and the schema brought up to date. Every call blocks."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection

from coderd.model import RandomBytes

MIGRATIONS = Path(__file__).parent / "migrations"

PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
"""FULL: what was acknowledged, a revocation say, survives a power cut too."""


class NewerSchema(Exception):
    """The database was written by a newer program, whose schema this one does not know."""


class Database:
    """Opens and migrates. Raises NewerSchema, OSError or SQLAlchemyError where it cannot.

    Args:
        path: the SQLite file; made, readable by us alone, if it is missing.
        rng: randomness for tokens.
        clock: wall-clock seconds.
    """

    def __init__(
        self, path: Path, *, rng: RandomBytes = os.urandom, clock: Callable[[], float] = time.time
    ) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        self.rng = rng
        self.now = clock
        self.n_changes = 0
        """Another number after every commit of ours; what other programs write does not count."""
        self._engine = _open_engine(path)
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only looks."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that takes the write lock at its beginning; committed when the block ends without an error."""
        writer = self._engine.connect().execution_options(takes_write_lock=True)
        try:
            with writer as connection, connection.begin():
                yield connection
        finally:
            self.n_changes += 1

    def _migrate(self) -> None:
        config = _alembic()
        with self.write() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            if revision is not None and revision not in known_revisions():
                raise NewerSchema(revision)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def known_revisions() -> set[str]:
    """The schemas that this program can bring up to date."""
    return {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}


def _alembic() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


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
