"""Effects of a change of identities on connected nodes.

The store returns them, and one module applies them. Pure.

Every method of the store that changes which nodes may connect, and to which peers, returns a ``Change``.
``server/effects.py`` applies its effects to the registry and the relay; a handler has no other way to a
changing method, and a test holds it to that.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Generic, TypeVar

from coderd.identity.people import Node
from coderd.model.keys import NodePublic

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effects:
    """Effects of one change on connections; ``+`` joins the effects of two changes."""

    amended: tuple[Node, ...] = ()
    """Nodes with a changed name, owner's name, sharing, path rule or approval, as they are after the
    change."""
    expelled: tuple[Node, ...] = ()
    """Nodes that still exist but may not connect any more: their connections end."""
    expired: tuple[Node, ...] = ()
    """Nodes that have expired: their connections end with that reason."""
    removed: tuple[Node, ...] = ()
    """Deleted nodes."""
    introduced: tuple[Node, ...] = ()
    """New nodes."""
    rekeyed: tuple[Node, ...] = ()
    """Nodes that have proven a new key."""
    closed_keys: tuple[NodePublic, ...] = ()
    """Node keys that lose their connections to the relay."""

    def __add__(self, other: "Effects") -> "Effects":
        return Effects(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


NOTHING = Effects()


def total(effects: Iterable[Effects]) -> Effects:
    """Joins the effects of several changes, in their order."""
    return sum(effects, NOTHING)


def expulsion(node: Node, node_key: NodePublic | None) -> Effects:
    """Returns the effects on a node that may not connect until it presents a new token.

    ``node_key`` is its proven key.
    """
    return Effects(expelled=(node,), closed_keys=_keys(node_key))


def removal(node: Node, node_key: NodePublic | None) -> Effects:
    """Returns the effects on a node that was deleted; ``node_key`` is its proven key."""
    return Effects(removed=(node,), closed_keys=_keys(node_key))


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What a changing method of the store returns: the method's own result, and what the change ends."""

    result: T = field(repr=False)
    effects: Effects = NOTHING


def _keys(node_key: NodePublic | None) -> tuple[NodePublic, ...]:
    return () if node_key is None else (node_key,)
