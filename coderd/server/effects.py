"""The one place where a change of identities reaches those who are connected: the registry's streams and the relay's links.

The store has changed already, so whoever asks it anew is answered by the new state; this ends what was let in before.
"""

from coderd.coordination.registry import EXPIRED, Registry
from coderd.derp.io.server import RelayServer
from coderd.identity.effects import Effects


def apply_effects(effects: Effects, registry: Registry, relay: RelayServer) -> None:
    """Ends and tells what a change has ended and changed. Never waits: between commit and this nobody is served by it.

    Who has left comes before who is new, as one node may be both: a workspace whose token was exchanged for another.
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
