"""The relay map that the server hands out: its own region, STUN servers, and the operator's map. Pure.

```
 own relay and STUN (999 coder)  --+
 STUN servers (1000, 1001, ...)  --+--  assemble  -->  DerpMap  -->  every node
 the operator's map              --+                     |
                                       direct connections blocked: no STUN in it at all
```
Host and port of the own region are those of the access URL; each node replaces them by the URL under which it
knows the server. Nothing is overwritten: if two of the three use one number or one code, the map is refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from coderd.config.derp import DerpOptions, StunServer
from coderd.config.derp_map import describe_region
from coderd.config.url import ServerUrl
from coderd.model.addresses import AddrPort
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion

NO_STUN = -1
"""STUN port that means no STUN, as in Tailscale's DERP maps."""


class MapClash(ValueError):
    """The operator's map conflicts with what the server adds; the message is a clause."""


def assemble(
    options: DerpOptions,
    url: ServerUrl,
    stun_addresses: Sequence[AddrPort],
    custom: DerpMap | None = None,
) -> DerpMap:
    """Returns the relay map for all nodes.

    Args:
        options: the server's DERP options.
        url: the server's access URL.
        stun_addresses: the addresses of its STUN responder.
        custom: the operator's map, valid by itself.

    Raises:
        MapClash: a region's number or code is taken, or no region could be a node's home.
    """
    custom = custom or DerpMap()
    regions: dict[int, DerpRegion] = {}
    for region in [*_own_regions(options, url, stun_addresses), *custom.regions.values()]:
        _check_clash(regions, region)
        regions[region.region_id] = region
    whole = replace(
        custom, regions=regions, force_websockets=options.force_websockets or custom.force_websockets
    )
    if options.blocks_direct:
        whole = without_stun(whole)
    if not any(may_be_home(region) for region in whole.regions.values()):
        raise MapClash("no region has a relay that may be a node's home")
    return whole


def without_stun(derp_map: DerpMap) -> DerpMap:
    """Returns the map without STUN, so that nodes cannot discover their own addresses."""
    regions = {
        region_id: replace(
            region,
            nodes=tuple(replace(node, stun_port=NO_STUN) for node in region.nodes if not node.stun_only),
        )
        for region_id, region in derp_map.regions.items()
    }
    kept = {region_id: region for region_id, region in regions.items() if region.nodes}
    return replace(derp_map, regions=kept)


def may_be_home(region: DerpRegion) -> bool:
    """Returns whether a region may be a node's home: it has a relay, and the map does not forbid it."""
    is_offered = not (region.avoid or region.no_measure_no_home)
    return is_offered and any(not node.stun_only for node in region.nodes)


def n_relays(derp_map: DerpMap) -> int:
    """Returns the number of relays in regions that may be a node's home."""
    regions = (region for region in derp_map.regions.values() if may_be_home(region))
    return sum(not node.stun_only for region in regions for node in region.nodes)


def _own_regions(
    options: DerpOptions, url: ServerUrl, stun_addresses: Sequence[AddrPort]
) -> Iterator[DerpRegion]:
    nodes = tuple(_own_nodes(options, url, stun_addresses))
    if nodes:
        yield DerpRegion(options.region_id, options.region_code, options.region_name, nodes)
    for number, server in enumerate(options.stun_servers, 1):
        yield _stun_region(options.region_id + number, server)


def _own_nodes(
    options: DerpOptions, url: ServerUrl, stun_addresses: Sequence[AddrPort]
) -> Iterator[DerpNode]:
    """Yields the relay with the first STUN port, then one STUN-only node for each further port.

    Without a relay all ports are STUN-only nodes.
    """
    ports = list(dict.fromkeys(port for _, port in stun_addresses))
    own = DerpNode(
        name=f"{options.region_id}b",
        region_id=options.region_id,
        host_name=url.host,
        derp_port=url.port,
        stun_port=NO_STUN,
        force_http=not url.is_tls,
    )
    if options.has_relay:
        yield replace(own, stun_port=ports.pop(0) if ports else NO_STUN)
    for number, port in enumerate(ports, 1):
        yield replace(own, name=f"{options.region_id}stun{number}", stun_port=port, stun_only=True)


def _stun_region(region_id: int, server: StunServer) -> DerpRegion:
    node = DerpNode(
        name=f"{region_id}stun0",
        region_id=region_id,
        host_name=server.host,
        stun_port=server.port,
        stun_only=True,
    )
    return DerpRegion(region_id, f"coder_stun_{region_id}", f"Coder STUN {region_id}", (node,))


def _check_clash(regions: dict[int, DerpRegion], region: DerpRegion) -> None:
    """Raises MapClash if a region's number, node names or code are taken.

    Numbers are unique within one JSON object, so such a clash is with a region that the server adds.
    """
    if (own := regions.get(region.region_id)) is not None:
        raise MapClash(
            f"{describe_region(region)} has the number of the server's own region {own.code!r}, {own.name}"
        )
    names = {node.name for other in regions.values() for node in other.nodes}
    if (taken := next((node.name for node in region.nodes if node.name in names), None)) is not None:
        raise MapClash(
            f"node {taken!r} of {describe_region(region)} has the name of a node of the server's own"
        )
    if region.code and any(region.code == other.code for other in regions.values()):
        raise MapClash(f"two regions have the code {region.code!r}, and each needs its own")
