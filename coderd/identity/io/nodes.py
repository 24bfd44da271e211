"""Nodes in SQL: workspaces, devices, their sharing and their keys.

Every method blocks: call it in a thread.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from coderd.identity.effects import Change, Effects, expulsion, removal
from coderd.identity.io.database import Database
from coderd.identity.io.lineage import maker_of, write_as
from coderd.identity.io.rows import (
    ACCEPTED,
    get_node,
    get_user,
    insert_node,
    insert_token,
    key_of,
    load_node,
    load_nodes,
    record,
    select_nodes,
    unique,
)
from coderd.identity.people import (
    SERVER,
    Actor,
    Enrolled,
    IdentityError,
    KeyTaken,
    NameTaken,
    Node,
    NotFound,
    User,
    check_label,
    device_label,
    numbered_label,
)
from coderd.identity.policy import may_tunnel, may_use
from coderd.identity.schema import node_keys, nodes, shares, tokens, users
from coderd.identity.tokens import TokenKind, hash_token, make_token
from coderd.model import limits
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathRule
from coderd.model.roles import Scope

MAX_SAME_NAME: Final = limits.MAX_SAME_NAME
"""Most nodes of one kind and user with equal machine names."""


_WORKSPACES_OF = (
    select_nodes()
    .where(
        nodes.c.kind == NodeKind.WORKSPACE.value,
        sa.or_(
            nodes.c.owner_id == sa.bindparam("user_id"),
            nodes.c.id.in_(
                sa.select(shares.c.workspace_id).where(shares.c.user_id == sa.bindparam("user_id"), ACCEPTED)
            ),
        ),
    )
    .order_by(nodes.c.name, nodes.c.id)
)
_DEVICES_OF = (
    select_nodes()
    .where(
        nodes.c.kind == NodeKind.DEVICE.value,
        nodes.c.owner_id.in_(sa.bindparam("people", expanding=True)),
    )
    .order_by(nodes.c.name, nodes.c.id)
)

_IS_THERE = sa.select(nodes.c.id).where(nodes.c.id == sa.bindparam("node_id"))
_ENROLLED_WITH = sa.select(nodes.c.enrol_key).where(nodes.c.id == sa.bindparam("node_id"))
_FORGET_KEY = node_keys.delete().where(node_keys.c.node_id == sa.bindparam("of_node"))
_ADD_KEY = node_keys.insert()


class Issued(NamedTuple):
    """A node and its new token, which the store does not keep."""

    node: Node
    token: str


class Nodes:
    """All nodes of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Coming and going

    def create_workspace(self, owner: User, name: str, *, by: Actor = SERVER) -> Change[Issued]:
        """Creates a workspace and its token. Raises BadName, NameTaken, or what ``write_as`` does."""
        check_label(name)
        with (
            write_as(self._database, by, on=owner.user_id) as connection,
            unique(f"there is a workspace named {name} already"),
        ):
            issued = add_workspace(connection, self._database, owner, name, by)
        return Change(issued, Effects(introduced=(issued.node,)))

    def enrol_device(
        self, owner: User, host_name: str, node_key: NodePublic, *, own_token: str = "", by: Actor = SERVER
    ) -> Change[Issued]:
        """Enrols a device of this user by its node key, new or known, with a new token instead of any old.

        The key is not proven here, so it admits to nothing until ``claim_keys``. With an old token ends its
        connection.

        Args:
            owner: the device's user.
            host_name: what the machine calls itself.
            node_key: public, so to name it is no proof of being the machine.
            own_token: the device's token of before, which is: a token that only enrols needs it for a device
                that is there.
            by: for the audit log.

        Raises:
            KeyTaken: the key is proven to be another identity's.
            Enrolled: the device exists, and the presented token may enrol only new ones.
            NotFound: the user has been deleted meanwhile.
            TokenGone: the presented token is not valid any more.
        """
        token, now = make_token(TokenKind.DEVICE, self._database.rng), self._database.now()
        lifetime = self._database.terms.device_lifetime
        with write_as(self._database, by, on=owner.user_id) as connection:
            maker = maker_of(connection, by, now)
            node = _find_enrolled(connection, owner, node_key)
            if node is None:
                name = free_name(connection, owner, NodeKind.DEVICE, device_label(host_name))
                is_waiting = self._database.terms.needs_approval
                node = Node(self._database.new_id(), NodeKind.DEVICE, name, owner, now, is_waiting=is_waiting)
                insert_node(connection, node, self._database.quotas, node_key)
                effects = Effects(introduced=(node,))
            else:
                is_full = maker is None or maker.scope == Scope.ALL.value
                if not is_full and not _is_own(connection, node, own_token):
                    raise Enrolled(
                        f"this machine is {node.full_name} already, and this token enrols only new machines"
                    )
                effects = expulsion(node, key_of(connection, node.node_id))
            connection.execute(tokens.delete().where(tokens.c.node_id == node.node_id))
            insert_token(
                connection,
                token,
                TokenKind.DEVICE,
                now=now,
                node_id=node.node_id,
                expires_at=None if lifetime is None else now + lifetime,
                parent_id=by.token_id,
            )
            record(connection, now, by, "device.enrol", node.full_name)
        return Change(Issued(node, token), effects)

    def delete(self, owner: User, kind: NodeKind, key: UUID | str, *, by: Actor = SERVER) -> Change[Node]:
        """Deletes a node with its tokens and key; returns it as it was. Raises NotFound."""
        with write_as(self._database, by, on=owner.user_id) as connection:
            node = get_node(connection, owner, kind, key)
            node_key = key_of(connection, node.node_id)
            connection.execute(nodes.delete().where(nodes.c.id == node.node_id))
            record(connection, self._database.now(), by, f"{kind.value}.delete", node.full_name)
        return Change(node, removal(node, node_key))

    def approve(self, owner: User, key: UUID | str, *, by: Actor = SERVER) -> Change[Node]:
        """Lets a device in that waits for it; again is no change. Raises NotFound."""
        with write_as(self._database, by, on=owner.user_id, needs_manager=True) as connection:
            node = get_node(connection, owner, NodeKind.DEVICE, key)
            if node.is_waiting:
                connection.execute(nodes.update().where(nodes.c.id == node.node_id).values(is_waiting=False))
                record(connection, self._database.now(), by, "device.approve", node.full_name)
            return _amended(get_node(connection, owner, NodeKind.DEVICE, node.node_id))

    # Changing: the result of each is the node as it then is

    def rename(
        self, owner: User, kind: NodeKind, key: UUID | str, name: str, *, by: Actor = SERVER
    ) -> Change[Node]:
        """Gives a node another name. Raises BadName, NameTaken or NotFound."""
        check_label(name)
        with (
            write_as(self._database, by, on=owner.user_id) as connection,
            unique(f"there is a {kind.value} named {name} already"),
        ):
            node = get_node(connection, owner, kind, key)
            connection.execute(nodes.update().where(nodes.c.id == node.node_id).values(name=name))
            record(connection, self._database.now(), by, f"{kind.value}.rename", node.full_name, f"to {name}")
            return _amended(get_node(connection, owner, kind, node.node_id))

    def set_path(self, owner: User, key: UUID | str, path: PathRule, *, by: Actor = SERVER) -> Change[Node]:
        """Says by which paths a workspace may be reached. Raises NotFound."""
        with write_as(self._database, by, on=owner.user_id) as connection:
            node = get_node(connection, owner, NodeKind.WORKSPACE, key)
            connection.execute(nodes.update().where(nodes.c.id == node.node_id).values(path=path.value))
            record(connection, self._database.now(), by, "workspace.path", node.full_name, path.value)
            return _amended(get_node(connection, owner, NodeKind.WORKSPACE, node.node_id))

    # Looking

    def of(self, owner: User, kind: NodeKind) -> list[Node]:
        """Lists a user's nodes of one kind, by name."""
        mine = nodes.c.owner_id == owner.user_id
        return self._list(mine, nodes.c.kind == kind.value)

    def every(self, kind: NodeKind) -> list[Node]:
        """Lists all users' nodes of one kind, by name."""
        return self._list(nodes.c.kind == kind.value)

    def shared_with(self, guest: User) -> list[Node]:
        """Lists the workspaces of others that are shared with a user."""
        shared = sa.select(shares.c.workspace_id).where(shares.c.user_id == guest.user_id, ACCEPTED)
        return [node for node in self._list(nodes.c.id.in_(shared)) if may_use(guest.user_id, node)]

    def get(self, owner: User, kind: NodeKind, key: UUID | str) -> Node:
        """Returns one of a user's nodes, by id or name. Raises NotFound, also for another user's."""
        with self._database.read() as connection:
            return get_node(connection, owner, kind, key)

    def find(self, kind: NodeKind, node_id: UUID) -> Node | None:
        """Returns any user's node, by its id."""
        with self._database.read() as connection:
            return load_node(
                connection, select_nodes().where(nodes.c.id == node_id, nodes.c.kind == kind.value)
            )

    def find_named(self, kind: NodeKind, owner: str, name: str) -> Node | None:
        """Returns any user's node, by its owner's name and its own."""
        query = select_nodes().where(users.c.name == owner, nodes.c.kind == kind.value, nodes.c.name == name)
        with self._database.read() as connection:
            return load_node(connection, query)

    def partners(self, node: Node) -> list[Node]:
        """Returns every node that policy lets this one meet, connected or not."""
        with self._database.read() as connection:
            return partners_of(connection, node)

    # Node keys

    def claim_keys(
        self, claims: Sequence[tuple[Node, NodePublic]]
    ) -> Change[list[NodePublic | IdentityError | None]]:
        """Records proven keys as their nodes' own, in one transaction.

        Returns for each claim the key that it replaces, None if there was none or the same, or its refusal:
        ``KeyTaken`` if the key is another node's or, where devices wait for approval, not the one that the
        device had then; ``NotFound`` if the node has been deleted meanwhile.
        """
        with self._database.read() as connection:  # a node that comes back writes nothing
            if all(key_of(connection, node.node_id) == node_key for node, node_key in claims):
                return Change([None for _ in claims])
        with self._database.write() as connection:
            now = self._database.now()
            is_held = self._database.terms.needs_approval
            answers = [
                _claim_key(connection, node, node_key, now, is_held=is_held) for node, node_key in claims
            ]
        replaced = [
            (node, old) for (node, _), old in zip(claims, answers, strict=True) if isinstance(old, NodePublic)
        ]
        return Change(
            answers, Effects(rekeyed=tuple(n for n, _ in replaced), closed_keys=tuple(k for _, k in replaced))
        )

    def admit(self, node_key: NodePublic) -> Node | None:
        """Returns the node with this proven key; None means that the relay must not serve it."""
        query = select_nodes().join(node_keys, node_keys.c.node_id == nodes.c.id)
        with self._database.read() as connection:
            return load_node(connection, query.where(node_keys.c.node_key == bytes(node_key)))

    def _list(self, *conditions: sa.ColumnElement[bool]) -> list[Node]:
        query = select_nodes().where(*conditions).order_by(nodes.c.name, nodes.c.id)
        with self._database.read() as connection:
            return load_nodes(connection, query)


def _amended(node: Node) -> Change[Node]:
    return Change(node, Effects(amended=(node,)))


def partners_of(connection: Connection, node: Node) -> list[Node]:
    """Returns every node that policy lets this one meet, inside a transaction."""
    owner = node.owner.user_id
    if node.kind is NodeKind.DEVICE:
        found = load_nodes(connection, _WORKSPACES_OF, {"user_id": owner})
    else:
        people = [owner, *(user.user_id for user in node.shared_with)]
        found = load_nodes(connection, _DEVICES_OF, {"people": people})
    return [other for other in found if may_tunnel(node, other)]


def _claim_key(
    connection: Connection, node: Node, node_key: NodePublic, now: float, *, is_held: bool
) -> NodePublic | IdentityError | None:
    """One claim inside a transaction: what it replaces, or its refusal, which leaves the others as they are.

    A device is ``is_held`` to the key that it enrolled with: an admin has approved that machine, and not
    whatever comes with a token of it.
    """
    if connection.execute(_IS_THERE, {"node_id": node.node_id}).first() is None:
        return NotFound("this node has been deleted")
    old = key_of(connection, node.node_id)
    if old == node_key:
        return None
    if is_held and node.kind is NodeKind.DEVICE:
        enrolled_with = connection.execute(_ENROLLED_WITH, {"node_id": node.node_id}).scalar_one()
        if enrolled_with is not None and enrolled_with != bytes(node_key):
            return KeyTaken("this device was approved with another node key")
    try:
        with connection.begin_nested():
            connection.execute(_FORGET_KEY, {"of_node": node.node_id})
            connection.execute(
                _ADD_KEY, {"node_key": bytes(node_key), "node_id": node.node_id, "claimed_at": now}
            )
    except IntegrityError:
        return KeyTaken("this node key belongs to another identity")
    return old


def add_workspace(connection: Connection, database: Database, owner: User, name: str, by: Actor) -> Issued:
    """Creates a workspace inside a transaction; a broken constraint is an IntegrityError. Raises NotFound."""
    owner = get_user(connection, owner.user_id)
    node = Node(database.new_id(), NodeKind.WORKSPACE, name, owner, database.now())
    token = make_token(TokenKind.WORKSPACE, database.rng)
    insert_node(connection, node, database.quotas)
    insert_token(
        connection,
        token,
        TokenKind.WORKSPACE,
        now=node.created_at,
        node_id=node.node_id,
        parent_id=by.token_id,
    )
    record(connection, node.created_at, by, "workspace.create", node.full_name)
    return Issued(node, token)


def free_name(connection: Connection, owner: User, kind: NodeKind, label: str) -> str:
    """Returns the first of ``label``, ``label-2`` and so on that no node of this kind of the owner's has.

    Raises NameTaken.
    """
    query = sa.select(nodes.c.name).where(nodes.c.owner_id == owner.user_id, nodes.c.kind == kind.value)
    taken = set(connection.execute(query).scalars())
    for number in range(1, MAX_SAME_NAME + 1):
        if (name := numbered_label(label, number)) not in taken:
            return name
    raise NameTaken(f"there are {MAX_SAME_NAME} {kind.value}s named {label} already")


def _is_own(connection: Connection, node: Node, token: str) -> bool:
    """Returns whether a token is a device's own, even if expired."""
    query = sa.select(tokens.c.id).where(tokens.c.node_id == node.node_id, tokens.c.hash == hash_token(token))
    return connection.execute(query).first() is not None


def _find_enrolled(connection: Connection, owner: User, node_key: NodePublic) -> Node | None:
    """Returns the owner's device that proved this key, or else enrolled with it.

    Raises KeyTaken if it is another node's.
    """
    proven = select_nodes().join(node_keys, node_keys.c.node_id == nodes.c.id)
    node = load_node(connection, proven.where(node_keys.c.node_key == bytes(node_key)))
    if node is not None and (node.owner.user_id, node.kind) != (owner.user_id, NodeKind.DEVICE):
        raise KeyTaken("this machine's node key belongs to another identity")
    if node is not None:
        return node
    enrolled = (nodes.c.owner_id == owner.user_id, nodes.c.enrol_key == bytes(node_key))
    return load_node(connection, select_nodes().where(*enrolled))
