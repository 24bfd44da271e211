"""The relay map that the server hands out: its own relay and STUN responder, one region.

Host and port are those of the access URL; each node puts the URL in their place by which it knows the server itself.
"""

from collections.abc import Sequence

from coderd.config.url import ServerUrl
from coderd.model.addresses import AddrPort
from coderd.model.derpmap import EMBEDDED_REGION, DerpMap, DerpNode, DerpRegion

REGION_CODE = "coder"
REGION_NAME = "Coder Embedded Relay"
NO_STUN = -1


def embedded_derp_map(url: ServerUrl, stun_addresses: Sequence[AddrPort]) -> DerpMap:
    """The map of a server at ``url`` whose STUN responder is bound to these addresses; further ones are STUN-only nodes."""
    ports = list(dict.fromkeys(port for _, port in stun_addresses)) or [NO_STUN]
    relay = _node(f"{EMBEDDED_REGION}b", url, ports[0], is_relay=True)
    extra = [
        _node(f"{EMBEDDED_REGION}stun{number}", url, port, is_relay=False)
        for number, port in enumerate(ports[1:], 1)
    ]
    region = DerpRegion(EMBEDDED_REGION, REGION_CODE, REGION_NAME, (relay, *extra))
    return DerpMap({EMBEDDED_REGION: region})


def _node(name: str, url: ServerUrl, stun_port: int, *, is_relay: bool) -> DerpNode:
    return DerpNode(
        name=name,
        region_id=EMBEDDED_REGION,
        host_name=url.host,
        derp_port=url.port,
        stun_port=stun_port,
        stun_only=not is_relay,
        force_http=not url.is_tls,
    )
