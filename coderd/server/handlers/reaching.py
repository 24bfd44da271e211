"""Resolution of the keys in a route's path, within the reach of its rule; anything beyond is not found."""

from http import HTTPStatus
from typing import NoReturn
from uuid import UUID

from coderd.api.io.routes import ApiError, Call, Caller
from coderd.api.rules import ResourceScope
from coderd.identity.io.store import Store
from coderd.identity.people import Actor, Node, NotFound, User
from coderd.identity.policy import may_manage, may_use
from coderd.model.netmap import NodeKind
from coderd.model.roles import UserRole

SEPARATOR = "~"
"""Separator of owner and name in a path, instead of the slash."""


def user_of(caller: Caller) -> User:
    """Returns the caller as a user; for a node's token, its owner."""
    assert caller.user_id is not None
    return User(caller.user_id, caller.user_name, caller.role.user_role)


def actor_of(caller: Caller) -> Actor:
    """Returns the caller as the actor of an audit record."""
    return Actor(caller.user_name, caller.user_id, caller.source, caller.token_id)


def reach_node(store: Store, call: Call, kind: NodeKind) -> Node:
    """Returns the node that a call's path names. Blocks. Raises ApiError if there is none within reach."""
    text, caller = call.keys["key"], user_of(call.caller)
    node = _find_node(store, caller, kind, text)
    if node is None or not _is_within(call.rule.reach, caller, node):
        hint = _of_others(store, caller, kind, text) if node is None else ""
        not_found(f"you have no {kind.value} {text.replace(SEPARATOR, '/')}", hint)
    return node


def reach_user(store: Store, call: Call) -> User:
    """Returns the user that a call's path names. Blocks. Raises ApiError if there is none within reach."""
    text, caller = call.keys["key"], user_of(call.caller)
    wanted = as_key(text)
    try:
        found = store.users.get(wanted)
    except NotFound:
        found = None
    is_self = found is not None and found.user_id == caller.user_id
    if found is None or not (is_self or caller.role is not UserRole.MEMBER):
        not_found(f"there is no user {text}")
    if call.rule.reach is ResourceScope.MANAGED and not may_manage(caller, found):
        forbidden("only an owner may change an owner or an admin")
    return found


def as_key(text: str) -> UUID | str:
    """Parses a key: returns a UUID if it is one, else the text, a name."""
    try:
        return UUID(text) if len(text) == 36 else text
    except ValueError:
        return text


def not_found(message: str, hint: str = "") -> NoReturn:
    """Raises ApiError for what does not exist or is out of the caller's reach."""
    raise ApiError(HTTPStatus.NOT_FOUND, "not_found", message, hint)


def forbidden(message: str) -> NoReturn:
    """Raises ApiError for what the caller's role does not permit."""
    raise ApiError(HTTPStatus.FORBIDDEN, "forbidden", message)


def _find_node(store: Store, caller: User, kind: NodeKind, text: str) -> Node | None:
    wanted = as_key(text)
    if isinstance(wanted, UUID):
        return store.nodes.find(kind, wanted)
    owner, separator, name = wanted.partition(SEPARATOR)
    if separator:
        return store.nodes.find_named(kind, owner, name)
    return store.nodes.find_named(kind, caller.name, wanted)


def _of_others(store: Store, caller: User, kind: NodeKind, text: str) -> str:
    """Returns a hint that names shared workspaces of that name: a bare name means the caller's own only."""
    if kind is not NodeKind.WORKSPACE or SEPARATOR in text:
        return ""
    names = [node.full_name for node in store.nodes.shared_with(caller) if node.name == text]
    return f"Name another user's workspace with its owner: {' or '.join(names[:5])}." if names else ""


def _is_within(reach: ResourceScope, caller: User, node: Node) -> bool:
    if reach is ResourceScope.OWN:
        return node.owner.user_id == caller.user_id
    if may_manage(caller, node.owner):
        return True
    if reach is ResourceScope.SEEN:
        return caller.role is not UserRole.MEMBER or may_use(caller.user_id, node)
    return False
