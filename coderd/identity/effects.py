"""What a change of identities ends or begins for those who are connected.

Said by the store, applied in one place. Pure.

Every method of the store that changes who may be here, and whom they may meet, returns a ``Change``.
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
    """What connections have to learn of one change; ``+`` joins those of two."""

    amended: tuple[Node, ...] = ()
    """Nodes whose name, owner's name, sharing, path rule or approval is another, as they are now."""
    expelled: tuple[Node, ...] = ()
    """Nodes whose right to be here has ended, though they exist: their connections end."""
    expired: tuple[Node, ...] = ()
    """Nodes whose time is up: their connections end, and they are told why."""
    removed: tuple[Node, ...] = ()
    """Nodes that exist no more."""
    introduced: tuple[Node, ...] = ()
    """Nodes that are new."""
    rekeyed: tuple[Node, ...] = ()
    """Nodes that have proven another key than before."""
    closed_keys: tuple[NodePublic, ...] = ()
    """Node keys whose connections to the relay end."""

    def __add__(self, other: "Effects") -> "Effects":
        return Effects(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


NOTHING = Effects()


def total(effects: Iterable[Effects]) -> Effects:
    """Joins the effects of several changes, in their order."""
    return sum(effects, NOTHING)


def expulsion(node: Node, node_key: NodePublic | None) -> Effects:
    """Returns the effects on a node that may not be here until it comes with another token.

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
