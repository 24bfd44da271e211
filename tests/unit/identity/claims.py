"""One claim of a node key, as the store's batch of several answers it."""

from coderd.identity.effects import Change
from coderd.identity.io.store import Store
from coderd.identity.people import IdentityError, Node
from coderd.model.keys import NodePublic


def claim_key(store: Store, node: Node, node_key: NodePublic) -> Change[NodePublic | None]:
    """Records a proven key as the node's own and returns the key that it replaces.

    Raises:
        IdentityError: the store's refusal.
    """
    change = store.nodes.claim_keys([(node, node_key)])
    (answer,) = change.result
    if isinstance(answer, IdentityError):
        raise answer
    return Change(answer, change.effects)
