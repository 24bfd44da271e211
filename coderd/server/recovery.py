"""A way back in, for who has the server's machine: a new owner, or a new sign-in for somebody who has lost theirs. Blocks.

Both write into the database beside a server that runs, which SQLite's write-ahead log allows. A running server asks its database
about every session, and looks once a second for what others have written: it then ends the links of nodes whose tokens this has
ended (``identity/io/expiry.py``). The token goes into a file of mode 0600 in the state directory, as the first administrator's does.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from coderd.config.lifetimes import LifetimeOptions
from coderd.identity.io.database import known_revisions
from coderd.identity.people import Actor, IdentityError
from coderd.model.errors import Exit, UserError
from coderd.model.roles import UserRole
from coderd.process.private_directory import write_private
from coderd.server.state import DATABASE_FILE
from coderd.server.store import open_store

BY: Final = Actor("server", source="the server's machine")


class Recovered(NamedTuple):
    """Who can sign in, and where the token is."""

    name: str
    token: str
    token_file: Path
    n_ended: int = 0
    """Tokens that were ended."""


def create_admin(state_dir: Path, lifetimes: LifetimeOptions, name: str) -> Recovered:
    """A new owner. Raises UserError where there is no server's state, or the name cannot be had."""
    store = open_store(_database(state_dir), lifetimes)
    try:
        made = store.users.create(name, role=UserRole.OWNER, by=BY).result
    except IdentityError as error:
        raise _refused(error) from None
    finally:
        store.close()
    return Recovered(name, made.token, _keep(state_dir, name, made.token))


def reset_user(
    state_dir: Path, lifetimes: LifetimeOptions, name: str, *, with_nodes: bool = False
) -> Recovered:
    """A new sign-in for a user, whose sessions and join keys all end; ``with_nodes``: the tokens of their machines, too.

    Raises UserError where there is no server's state, or no such user.
    """
    store = open_store(_database(state_dir), lifetimes)
    try:
        done = store.sessions.reset(name, with_nodes=with_nodes, by=BY).result
    except IdentityError as error:
        raise _refused(error) from None
    finally:
        store.close()
    return Recovered(name, done.token, _keep(state_dir, name, done.token), done.n_ended)


def _database(state_dir: Path) -> Path:
    """A database of this very version: one that a running server of another version uses must not change under it."""
    database = state_dir / DATABASE_FILE
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError):
        raise UserError(
            f"there is no server's database in {state_dir} that can be read",
            hint="Name its directory with --state-dir, and run this as the server's user or root.",
            code="no_state",
        ) from None
    if revision != max(known_revisions()):
        raise UserError(
            f"the database in {state_dir} is of another version of coderd",
            hint="Start the server of this version once, then try again.",
            code="other_schema",
        )
    return database


def _keep(state_dir: Path, name: str, token: str) -> Path:
    path = state_dir / f"sign-in-{name}"
    write_private(path, f"{token}\n".encode())
    return path


def _refused(error: IdentityError) -> UserError:
    return UserError(str(error), exit_code=Exit.FAILED, hint=error.hint, code=error.code)
