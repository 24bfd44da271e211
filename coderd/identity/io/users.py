"""Users in SQL. Every method blocks: call it in a thread."""

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from coderd.identity.effects import Change, Effects, removal, total
from coderd.identity.io.database import Database
from coderd.identity.io.lineage import write_as
from coderd.identity.io.rows import (
    ACCEPTED,
    count_apps,
    count_nodes,
    count_tokens,
    get_user,
    key_of,
    load_nodes,
    record,
    select_nodes,
    unique,
    user_of,
)
from coderd.identity.io.sessions import add_sign_in
from coderd.identity.io.shares import count_shares
from coderd.identity.people import SERVER, Actor, LastOwner, Node, User, check_user_name
from coderd.identity.schema import nodes, shares, users
from coderd.model.netmap import NodeKind
from coderd.model.quotas import Quotas, Usage
from coderd.model.roles import UserRole


class NewUser(NamedTuple):
    """A user and their first session token, which the store does not keep."""

    user: User
    token: str


class Users:
    """All users of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        *,
        role: UserRole = UserRole.MEMBER,
        by: Actor = SERVER,
    ) -> Change[NewUser]:
        """Creates a user with a sign-in: both or neither.

        Raises:
            BadName, NameTaken: the name cannot be had.
            TokenGone: the presented token is not valid any more.
        """
        user, now = User(self._database.new_id(), check_user_name(name), role), self._database.now()
        with (
            write_as(self._database, by, role=role) as connection,
            unique(f"there is a user named {name} already"),
        ):
            connection.execute(
                users.insert().values(id=user.user_id, name=name, role=role.value, created_at=now)
            )
            made, _ = add_sign_in(connection, self._database, user, by)
            record(connection, now, by, "user.create", name, f"role {role.value}")
        return Change(NewUser(user, made.token))

    def create_first_owner(self, name: str, deliver: Callable[[str], None]) -> Change[bool]:
        """Creates the first user, an owner, if there is no user at all; returns whether it did.

        Args:
            name: the user's name.
            deliver: given the session token before anything is committed, so that no crash leaves an owner
                without it.
        """
        user, now = User(self._database.new_id(), name, UserRole.OWNER), self._database.now()
        role = user.role.value
        row = sa.select(
            sa.literal(user.user_id, sa.Uuid), sa.literal(name), sa.literal(role), sa.literal(now)
        ).where(~sa.exists().select_from(users))
        with self._database.write() as connection:
            insert = users.insert().from_select(["id", "name", "role", "created_at"], row)
            if connection.execute(insert).rowcount != 1:
                return Change(False)
            made, _ = add_sign_in(connection, self._database, user, SERVER)
            record(connection, now, SERVER, "user.create", name, f"role {role}")
            deliver(made.token)
        return Change(True)

    def everybody(self) -> list[User]:
        """Lists all users, by their name."""
        with self._database.read() as connection:
            return [user_of(row) for row in connection.execute(sa.select(users).order_by(users.c.name))]

    def get(self, key: UUID | str) -> User:
        """Returns a user by id or name. Raises NotFound."""
        with self._database.read() as connection:
            return get_user(connection, key)

    def usage(self, user: User) -> Usage:
        """Counts what a user has of all that is limited."""
        now, owner_id = self._database.now(), user.user_id
        counts = {
            "workspaces": count_nodes(owner_id, NodeKind.WORKSPACE),
            "devices": count_nodes(owner_id, NodeKind.DEVICE),
            "tokens": count_tokens(owner_id, now),
            "apps": count_apps(owner_id),
            "shares": count_shares(owner_id, now),
        }
        with self._database.read() as connection:
            return Usage(**{kind: connection.execute(count).scalar_one() for kind, count in counts.items()})

    @property
    def quotas(self) -> Quotas:
        """How much one user may have."""
        return self._database.quotas

    def change(
        self, user: User, *, name: str | None = None, role: UserRole | None = None, by: Actor = SERVER
    ) -> Change[User]:
        """Gives a user another name, another role, or both: all of it or nothing.

        Returns the user as they then are.

        Raises:
            BadName, NameTaken: the name cannot be had.
            LastOwner, NotFound: the role cannot be given.
            TokenGone, NotManaged: the caller may not do that any more.
        """
        with (
            write_as(self._database, by, on=user.user_id, role=role) as connection,
            unique(f"there is a user named {name} already"),
        ):
            old = get_user(connection, user.user_id)
            if role is not None:
                self._set_role(connection, old, role, by)
            amended = [] if name is None else self._rename(connection, old, name, by)
            return Change(get_user(connection, old.user_id), Effects(amended=tuple(amended)))

    def _set_role(self, connection: sa.Connection, old: User, role: UserRole, by: Actor) -> None:
        connection.execute(users.update().where(users.c.id == old.user_id).values(role=role.value))
        _check_owner_left(connection)
        told = f"{old.role.value} to {role.value}"
        record(connection, self._database.now(), by, "user.role", old.name, told)

    def _rename(self, connection: sa.Connection, old: User, name: str, by: Actor) -> list[Node]:
        """Renames a user inside a transaction; returns their nodes, as full names contain the user's name."""
        check_user_name(name)
        connection.execute(users.update().where(users.c.id == old.user_id).values(name=name))
        record(connection, self._database.now(), by, "user.rename", old.name, f"to {name}")
        return load_nodes(connection, select_nodes().where(nodes.c.owner_id == old.user_id))

    def delete(self, user: User, *, by: Actor = SERVER) -> Change[User]:
        """Deletes a user with all that is theirs; returns them as they were.

        Raises LastOwner, NotFound, TokenGone or NotManaged.
        """
        with write_as(self._database, by, on=user.user_id) as connection:
            user = get_user(connection, user.user_id)
            theirs = load_nodes(connection, select_nodes().where(nodes.c.owner_id == user.user_id))
            gone = total(removal(node, key_of(connection, node.node_id)) for node in theirs)
            guest_of = sa.select(shares.c.workspace_id).where(shares.c.user_id == user.user_id, ACCEPTED)
            unshared = list(connection.execute(guest_of).scalars())
            unanswered = shares.update().where(shares.c.user_id == user.user_id, ~ACCEPTED)
            connection.execute(
                unanswered.values(user_id=None)
            )  # an offer does not reveal to its giver whether the user existed
            connection.execute(users.delete().where(users.c.id == user.user_id))
            _check_owner_left(connection)
            record(connection, self._database.now(), by, "user.delete", user.name)
            left = load_nodes(connection, select_nodes().where(nodes.c.id.in_(unshared)))
        return Change(user, gone + Effects(amended=tuple(left)))


def _check_owner_left(connection: Connection) -> None:
    """Raises LastOwner if no owner is left.

    Holds the write lock, so that two owners cannot demote each other.
    """
    owners = sa.select(users.c.id).where(users.c.role == UserRole.OWNER.value).limit(1)
    if connection.execute(owners).first() is None:
        raise LastOwner("the last owner can be neither removed nor demoted")
