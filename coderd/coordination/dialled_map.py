"""A server's relay map as a node may dial it."""

from dataclasses import replace

from coderd.config.url import ServerUrl
from coderd.model.derpmap import EMBEDDED_REGION, DerpMap, DerpNode, DerpRegion


def map_as_dialled(derp_map: DerpMap, url: ServerUrl, region_id: int = EMBEDDED_REGION) -> DerpMap:
    """Returns a server's map as a node dials it.

    The server's own region is where the node knows it, and no other region is on the node itself.

    Only a server that the person named on this machine itself may name relays there.
    """
    if not url.is_this_machine:
        derp_map = replace(
            derp_map, regions={number: _elsewhere(region) for number, region in derp_map.regions.items()}
        )
    return rewrite_embedded_region(derp_map, url, region_id)


def _elsewhere(region: DerpRegion) -> DerpRegion:
    return replace(region, nodes=tuple(replace(node, is_elsewhere=True) for node in region.nodes))


def rewrite_embedded_region(derp_map: DerpMap, url: ServerUrl, region_id: int = EMBEDDED_REGION) -> DerpMap:
    """Returns the map with the server's own region where this node knows the server: host, port and scheme.

    A node may reach its server by an internal name that the access URL does not tell; it then relays by it,
    too.
    """
    region = derp_map.regions.get(region_id)
    if region is None:
        return derp_map
    nodes = tuple(_rewrite_node(node, url) for node in region.nodes)
    return replace(derp_map, regions={**derp_map.regions, region_id: replace(region, nodes=nodes)})


def _rewrite_node(node: DerpNode, url: ServerUrl) -> DerpNode:
    return replace(
        node,
        host_name=url.host,
        ipv4="",
        ipv6="",
        derp_port=url.port,
        force_http=not url.is_tls,
        server_trust=url.trust if url.is_tls else "",
        is_elsewhere=False,
    )
