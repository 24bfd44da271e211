"""The addresses behind the names of relay and STUN hosts.

A name that does not resolve now may do so later.
"""

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import structlog
import trio

from coderd.model.derpmap import DerpMap

PATIENCE = (0.4, 2.0)
"""Seconds of each of two rounds of resolving. One name without an address must not delay the others for long;
a slow resolver gets more time in the second round."""

RESOLVE_RETRY = 10.0
"""Seconds between attempts while some names have no address, as at boot before the resolver is up."""
RESOLVE_INTERVAL = 600.0
"""Seconds between two looks at names that all have addresses."""

Resolved: TypeAlias = Mapping[str, tuple[str, ...]]
"""Addresses by host name; none where a name does not resolve."""

log = structlog.get_logger()


class RelayHosts:
    """Keeps the addresses of one DERP map's host names known.

    Args:
        on_resolved: takes the map with its addresses, each time that they were asked for.
        resolve: asks for a map's addresses, within so many seconds.
    """

    def __init__(
        self,
        on_resolved: Callable[[DerpMap, Resolved], None],
        resolve: Callable[[DerpMap, float], Awaitable[Resolved]] | None = None,
    ) -> None:
        self._on_resolved = on_resolved
        self._resolve = resolve or resolve_hosts
        self._derp_map: DerpMap | None = None
        self._is_stale = trio.Event()

    def set_derp_map(self, derp_map: DerpMap) -> None:
        """Resolves the names of another map from now on."""
        self._derp_map = derp_map
        self._is_stale.set()

    def refresh(self) -> None:
        """Asks again now: after a change of network the resolver may be another."""
        self._is_stale.set()

    async def run(self) -> None:
        """Resolves the map's names, again and again, until cancelled."""
        while True:
            self._is_stale = trio.Event()
            wait = RESOLVE_INTERVAL
            if (derp_map := self._derp_map) is not None:
                wait = RESOLVE_INTERVAL if await self._try(derp_map) else RESOLVE_RETRY
            with trio.move_on_after(wait):
                await self._is_stale.wait()

    async def _try(self, derp_map: DerpMap) -> bool:
        """Passes a map on, soon with the names that have addresses, then with those that take longer.

        True: all have.
        """
        for patience in PATIENCE:
            resolved = await self._resolve(derp_map, patience)
            self._on_resolved(derp_map, resolved)
            if is_complete(resolved):
                return True
            if self._is_stale.is_set():  # there is a newer map
                break
        return False


async def resolve_hosts(derp_map: DerpMap, patience: float = PATIENCE[-1]) -> dict[str, tuple[str, ...]]:
    """Resolves every host of a map; one that does not resolve within ``patience`` seconds has no address."""
    hosts = {node.host_name for region in derp_map.regions.values() for node in region.nodes}
    resolved: dict[str, tuple[str, ...]] = dict.fromkeys(sorted(hosts), ())
    with trio.move_on_after(patience):
        async with trio.open_nursery() as nursery:
            for host in resolved:
                nursery.start_soon(_resolve, host, resolved)
    return resolved


def is_complete(resolved: Mapping[str, tuple[str, ...]]) -> bool:
    """Returns whether every host has an address."""
    return all(resolved.values())


async def _resolve(host: str, resolved: dict[str, tuple[str, ...]]) -> None:
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, ValueError) as error:  # ValueError: a name that IDNA cannot express
        log.info("relay host does not resolve", error=str(error))
        return
    resolved[host] = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
