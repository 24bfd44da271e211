"""The addresses behind the names of relay and STUN hosts. A name that does not resolve now may do so later."""

import socket
from collections.abc import Mapping

import structlog
import trio

from coderd.model.derpmap import DerpMap

PATIENCE = (0.4, 2.0)
"""Seconds that each of two rounds waits. One name without an address must not keep the others from being used, or not for
long; a slow resolver gets more time in the second."""

log = structlog.get_logger()


async def resolve_hosts(derp_map: DerpMap, patience: float = PATIENCE[-1]) -> dict[str, tuple[str, ...]]:
    """The addresses of every host of the map; one that does not resolve within ``patience`` seconds has none."""
    hosts = {node.host_name for region in derp_map.regions.values() for node in region.nodes}
    resolved: dict[str, tuple[str, ...]] = dict.fromkeys(sorted(hosts), ())
    with trio.move_on_after(patience):
        async with trio.open_nursery() as nursery:
            for host in resolved:
                nursery.start_soon(_resolve, host, resolved)
    return resolved


def is_complete(resolved: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether every host has an address."""
    return all(resolved.values())


async def _resolve(host: str, resolved: dict[str, tuple[str, ...]]) -> None:
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, ValueError) as error:  # ValueError: a name that IDNA cannot express
        log.info("relay host does not resolve", error=str(error))
        return
    resolved[host] = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
