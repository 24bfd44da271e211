"""What others are shown of a node: built from its identity and its update, narrowed for one viewer."""

from msgspec.structs import replace

from coderd.coordination.message import PeerEntry, Refusal, Update
from coderd.coordination.viewer import NodeFacts
from coderd.identity.people import Node
from coderd.model.addresses import format_addr_port, parse_addr_port
from coderd.model.netmap import NodeKind, PeerAccess
from coderd.model.paths import PathPolicy

_EVERYTHING = PeerAccess()


def refuse_claim(node: Node, allowed_ips: list[str] | None) -> Refusal | None:
    """Returns the refusal of a node that claims any address but its own, None for a valid claim."""
    own = str(node.address)
    if allowed_ips is None or all(claim in (own, f"{own}/128") for claim in allowed_ips):
        return None
    return Refusal("bad_claim", "a node's addresses are the server's to give")


def shown_kind(node: Node) -> str:
    """Returns the kind that others are told.

    The server is shown as a device: older nodes know no third kind.
    """
    return NodeKind.DEVICE.value if node.kind is NodeKind.SERVER else node.kind.value


def make_entry(node: Node, facts: NodeFacts, update: Update) -> PeerEntry:
    """Returns a node's entry as a peer without limits is shown it.

    Raises ValueError on an invalid endpoint.
    """
    addrs = (parse_addr_port(endpoint.addr) for endpoint in update.endpoints)
    return PeerEntry(
        id=node.node_id,
        kind=shown_kind(node),
        name=node.full_name,
        node_key=facts.node_key.text,
        disco_key=facts.disco_key.text,
        address=str(node.address),
        home_region=update.home_region,
        generation=facts.generation,
        endpoints=[format_addr_port(addr) for addr in addrs if "%" not in addr[0]],  # a zone is one machine's
        capabilities=list(facts.capabilities),
    )


def narrow_entry(entry: PeerEntry, access: PeerAccess, *, is_relayed_only: bool) -> PeerEntry:
    """Returns an entry as one viewer is shown it.

    Args:
        entry: the peer's, as ``make_entry`` made it.
        access: what the peer may reach of the viewer.
        is_relayed_only: whether the two must meet by relay: the peer's addresses are then left out.
    """
    if access != _EVERYTHING:
        entry = replace(entry, ports=str(access.ports), terminal=access.terminal, is_server=access.is_server)
    if is_relayed_only:
        entry = replace(entry, endpoints=[], path_policy=PathPolicy.RELAY_ONLY.value)
    return entry
