"""Application of a change of identities to connected nodes: the registry's streams and the relay's links.

The store has changed already and answers by the new state; this ends what was admitted by the old one.
"""

from coderd.coordination.registry import EXPIRED, Registry
from coderd.derp.io.server import RelayServer
from coderd.identity.effects import Effects


def apply_effects(effects: Effects, registry: Registry, relay: RelayServer) -> None:
    """Applies a change's effects to registry and relay.

    Does not wait, so nothing is served by the old state after the commit. Expelled nodes come before
    introduced ones, as one node may be both: a workspace whose token was exchanged for another.
    """
    for node in effects.amended:
        registry.amend(node)
    for node in effects.expelled:
        registry.expel(node)
    for node in effects.expired:
        registry.expel(node, EXPIRED)
    for node in effects.removed:
        registry.forget(node)
    for node in effects.introduced:
        registry.introduce(node)
    for _node in effects.rekeyed:
        registry.note_rekeyed()
    for node_key in effects.closed_keys:
        relay.close_client(node_key)
