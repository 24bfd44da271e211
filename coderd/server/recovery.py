"""Recovery of access on the server's machine: a new owner, or a new sign-in for a user. Blocks.

Both write into the database beside a running server, which SQLite's write-ahead log permits. The server looks
once a second for changes by others, and then ends the links of nodes with revoked tokens
(``identity/io/expiry.py``). The token goes into a file of mode 0600 in the state directory, as the first
administrator's does.
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
"""Actor of these changes in the audit log."""


class Recovered(NamedTuple):
    """User who can sign in now, and the file with the token."""

    name: str
    token: str
    token_file: Path
    n_ended: int = 0
    """Number of revoked tokens."""


def create_admin(state_dir: Path, lifetimes: LifetimeOptions, name: str) -> Recovered:
    """Creates an owner. Raises UserError if there is no server's state, or the name is invalid or taken."""
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
    """Creates a new sign-in for a user, and revokes the user's sessions and join keys.

    Args:
        state_dir: the server's state directory.
        lifetimes: the lifetimes of tokens.
        name: the user's name.
        with_nodes: also revoke the tokens of the user's workspaces and devices.

    Raises:
        UserError: there is no server's state, or no such user.
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
    """Returns the database's path. Raises UserError unless its schema is this version's.

    A running server of another version must not have its schema changed.
    """
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
