"""The store: users, nodes, keys and tokens in SQL. Every method blocks: call it in a thread.

Each change is one transaction that takes the write lock at its beginning, and what must happen once is decided by a
constraint or a row count inside it, never by looking first.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias
from uuid import UUID, uuid4

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import IntegrityError

from coderd.identity.people import (
    KeyTaken,
    NameTaken,
    Node,
    NotFound,
    User,
    check_label,
    device_label,
    numbered_label,
)
from coderd.identity.policy import may_tunnel
from coderd.identity.schema import node_keys, nodes, tokens, users
from coderd.identity.tokens import TokenKind, hash_token, make_token, token_kind
from coderd.model import RandomBytes
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind

MIGRATIONS = Path(__file__).parent / "migrations"

MAX_SAME_NAME = 1000
"""Devices of one user whose machines bear the same name."""

Row: TypeAlias = "sa.Row[tuple[object, ...]]"


class Issued(NamedTuple):
    """A node and its new token, which is nowhere else to be had."""

    node: Node
    token: str


class NewUser(NamedTuple):
    """A user and the first session token, which is nowhere else to be had."""

    user: User
    token: str


class Store:
    """All identities of one server.

    Args:
        path: the SQLite file; made, readable by us alone, if it is missing.
        rng: randomness for tokens.
        clock: wall-clock seconds.
    """

    def __init__(
        self, path: Path, *, rng: RandomBytes = os.urandom, clock: Callable[[], float] = time.time
    ) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        self._rng = rng
        self._clock = clock
        self._engine = _open_engine(path)
        self._migrate()

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    # Users

    def create_user(self, name: str, *, lifetime: float | None = None) -> NewUser:
        """A new user with a session, good for ``lifetime`` seconds, else until it is revoked: both or neither.

        Raises:
            BadName, NameTaken: the name cannot be had.
        """
        user, token = User(uuid4(), check_label(name)), make_token(TokenKind.SESSION, self._rng)
        with self._write() as connection, _unique(f"there is a user named {name} already"):
            connection.execute(
                users.insert().values(id=user.user_id, name=name, is_admin=False, created_at=self._clock())
            )
            self._store_token(connection, token, TokenKind.SESSION, user_id=user.user_id, lifetime=lifetime)
        return NewUser(user, token)

    def create_first_admin(self, name: str, deliver: Callable[[str], None]) -> bool:
        """The first user, if there is no user at all; whether it was. Of any number of racers one is told True.

        Args:
            name: the user's name.
            deliver: given the session token before anything is committed, so that no crash leaves an admin without it.
        """
        user, token = User(uuid4(), check_label(name), True), make_token(TokenKind.SESSION, self._rng)
        row = sa.select(
            sa.literal(user.user_id, sa.Uuid), sa.literal(name), sa.true(), sa.literal(self._clock())
        ).where(~sa.exists().select_from(users))
        with self._write() as connection:
            insert = users.insert().from_select(["id", "name", "is_admin", "created_at"], row)
            if connection.execute(insert).rowcount != 1:
                return False
            self._store_token(connection, token, TokenKind.SESSION, user_id=user.user_id)
            deliver(token)
        return True

    # Tokens

    def find_user(self, token: str) -> User | None:
        """Whose session token this is, None for any other text."""
        if token_kind(token) is not TokenKind.SESSION:
            return None
        query = sa.select(users).join(tokens, tokens.c.user_id == users.c.id)
        with self._read() as connection:
            row = connection.execute(query.where(*self._is_valid(token, TokenKind.SESSION))).one_or_none()
        return _user(row) if row is not None else None

    def find_node(self, token: str) -> Node | None:
        """Whose node token this is, None for any other text."""
        kind = token_kind(token)
        if kind not in (TokenKind.WORKSPACE, TokenKind.DEVICE):
            return None
        query = _select_nodes().join(tokens, tokens.c.node_id == nodes.c.id)
        with self._read() as connection:
            row = connection.execute(query.where(*self._is_valid(token, kind))).one_or_none()
        return _node(row) if row is not None else None

    def revoke_token(self, token: str) -> bool:
        """Forgets a token; whether it was there. Of any number of racers one is told True."""
        with self._write() as connection:
            return connection.execute(tokens.delete().where(tokens.c.hash == hash_token(token))).rowcount == 1

    # Nodes

    def create_workspace(self, owner: User, name: str) -> Issued:
        """A new workspace and its token. Raises BadName or NameTaken."""
        node = Node(uuid4(), NodeKind.WORKSPACE, check_label(name), owner, self._clock())
        token = make_token(TokenKind.WORKSPACE, self._rng)
        with self._write() as connection, _unique(f"there is a workspace named {name} already"):
            _insert_node(connection, node, None)
            self._store_token(connection, token, TokenKind.WORKSPACE, node_id=node.node_id)
        return Issued(node, token)

    def enrol_device(self, owner: User, host_name: str, node_key: NodePublic) -> Issued:
        """The device of this user with this node key, new or the same as before, and a new token instead of any old.

        The key is not proven here, so it admits to nothing until ``claim_node_key``.

        Raises:
            KeyTaken: the key is proven to be another identity's.
        """
        token = make_token(TokenKind.DEVICE, self._rng)
        with self._write() as connection:
            node = self._find_enrolled(connection, owner, node_key)
            if node is None:
                name = self._free_device_name(connection, owner, device_label(host_name))
                node = Node(uuid4(), NodeKind.DEVICE, name, owner, self._clock())
                _insert_node(connection, node, node_key)
            connection.execute(tokens.delete().where(tokens.c.node_id == node.node_id))
            self._store_token(connection, token, TokenKind.DEVICE, node_id=node.node_id)
        return Issued(node, token)

    def list_nodes(self, owner: User, kind: NodeKind) -> list[Node]:
        """All of a user's nodes of one kind, by name."""
        query = _select_nodes().where(nodes.c.owner_id == owner.user_id, nodes.c.kind == kind.value)
        with self._read() as connection:
            return [_node(row) for row in connection.execute(query.order_by(nodes.c.name))]

    def get_node(self, owner: User, kind: NodeKind, key: UUID | str) -> Node:
        """One of a user's nodes, by id or name. Raises NotFound, also for somebody else's."""
        with self._read() as connection:
            return self._get(connection, owner, kind, key)

    def delete_node(self, owner: User, kind: NodeKind, key: UUID | str) -> tuple[Node, NodePublic | None]:
        """Deletes a node with its tokens and key; returns it and the key that it had. Raises NotFound."""
        with self._write() as connection:
            node = self._get(connection, owner, kind, key)
            node_key = _key_of(connection, node.node_id)
            connection.execute(nodes.delete().where(nodes.c.id == node.node_id))
        return node, node_key

    def partners(self, node: Node) -> list[Node]:
        """Every node that policy lets this one meet, connected or not."""
        query = _select_nodes().where(nodes.c.owner_id == node.owner.user_id).order_by(nodes.c.name)
        with self._read() as connection:
            found = [_node(row) for row in connection.execute(query)]
        return [other for other in found if may_tunnel(node, other)]

    # Node keys

    def claim_node_key(self, node: Node, node_key: NodePublic) -> NodePublic | None:
        """Records a proven key as the node's own; returns the key that it replaces, None if there was none or the same.

        Raises:
            KeyTaken: the key is another node's.
            NotFound: the node has been deleted meanwhile.
        """
        with self._write() as connection:
            if connection.execute(sa.select(nodes.c.id).where(nodes.c.id == node.node_id)).first() is None:
                raise NotFound("this node has been deleted")
            old = _key_of(connection, node.node_id)
            if old == node_key:
                return None
            connection.execute(node_keys.delete().where(node_keys.c.node_id == node.node_id))
            try:
                connection.execute(
                    node_keys.insert().values(
                        node_key=bytes(node_key), node_id=node.node_id, claimed_at=self._clock()
                    )
                )
            except IntegrityError:
                raise KeyTaken("this node key belongs to another identity") from None
        return old

    def admit(self, node_key: NodePublic) -> Node | None:
        """Whose proven node key this is; None means that the relay must not serve it."""
        query = _select_nodes().join(node_keys, node_keys.c.node_id == nodes.c.id)
        with self._read() as connection:
            row = connection.execute(query.where(node_keys.c.node_key == bytes(node_key))).one_or_none()
        return _node(row) if row is not None else None

    # Inside a transaction

    def _find_enrolled(self, connection: Connection, owner: User, node_key: NodePublic) -> Node | None:
        """The owner's device that proved this key, or else enrolled with it. Raises KeyTaken if it is another node's."""
        proven = _select_nodes().join(node_keys, node_keys.c.node_id == nodes.c.id)
        row = connection.execute(proven.where(node_keys.c.node_key == bytes(node_key))).one_or_none()
        if row is not None and (row.owner_id, row.kind) != (owner.user_id, NodeKind.DEVICE.value):
            raise KeyTaken("this machine's node key belongs to another identity")
        if row is None:
            enrolled = _select_nodes().where(
                nodes.c.owner_id == owner.user_id, nodes.c.enrol_key == bytes(node_key)
            )
            row = connection.execute(enrolled).one_or_none()
        return _node(row) if row is not None else None

    def _free_device_name(self, connection: Connection, owner: User, label: str) -> str:
        query = sa.select(nodes.c.name).where(
            nodes.c.owner_id == owner.user_id, nodes.c.kind == NodeKind.DEVICE.value
        )
        taken = set(connection.execute(query).scalars())
        for number in range(1, MAX_SAME_NAME + 1):
            if (name := numbered_label(label, number)) not in taken:
                return name
        raise NameTaken(f"there are {MAX_SAME_NAME} devices named {label} already")

    def _get(self, connection: Connection, owner: User, kind: NodeKind, key: UUID | str) -> Node:
        column = nodes.c.id if isinstance(key, UUID) else nodes.c.name
        query = _select_nodes().where(
            nodes.c.owner_id == owner.user_id, nodes.c.kind == kind.value, column == key
        )
        row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"you have no {kind.value} {key}")
        return _node(row)

    def _store_token(
        self,
        connection: Connection,
        token: str,
        kind: TokenKind,
        *,
        user_id: UUID | None = None,
        node_id: UUID | None = None,
        lifetime: float | None = None,
    ) -> None:
        now = self._clock()
        connection.execute(
            tokens.insert().values(
                hash=hash_token(token),
                kind=kind.name.lower(),
                user_id=user_id,
                node_id=node_id,
                created_at=now,
                expires_at=None if lifetime is None else now + lifetime,
            )
        )

    def _is_valid(self, token: str, kind: TokenKind) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            tokens.c.hash == hash_token(token),
            tokens.c.kind == kind.name.lower(),
            sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > self._clock()),
        )

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        writer = self._engine.connect().execution_options(takes_write_lock=True)
        with writer as connection, connection.begin():
            yield connection

    def _migrate(self) -> None:
        config = AlembicConfig()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        with self._write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _open_engine(path: Path) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": 30}, max_overflow=20
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's late one
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("takes_write_lock", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


@contextmanager
def _unique(refusal: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise NameTaken(refusal) from None


def _select_nodes() -> "sa.Select[tuple[object, ...]]":
    return sa.select(
        nodes.c.id,
        nodes.c.kind,
        nodes.c.name,
        nodes.c.created_at,
        users.c.id.label("owner_id"),
        users.c.name.label("owner_name"),
        users.c.is_admin,
    ).join_from(nodes, users, nodes.c.owner_id == users.c.id)


def _insert_node(connection: Connection, node: Node, enrol_key: NodePublic | None) -> None:
    connection.execute(
        nodes.insert().values(
            id=node.node_id,
            kind=node.kind.value,
            owner_id=node.owner.user_id,
            name=node.name,
            created_at=node.created_at,
            enrol_key=None if enrol_key is None else bytes(enrol_key),
        )
    )


def _key_of(connection: Connection, node_id: UUID) -> NodePublic | None:
    query = sa.select(node_keys.c.node_key).where(node_keys.c.node_id == node_id)
    raw = connection.execute(query).scalar_one_or_none()
    return None if raw is None else NodePublic(raw)


def _user(row: Row) -> User:
    return User(row.id, row.name, row.is_admin)


def _node(row: Row) -> Node:
    owner = User(row.owner_id, row.owner_name, row.is_admin)
    return Node(row.id, NodeKind(row.kind), row.name, owner, row.created_at)
