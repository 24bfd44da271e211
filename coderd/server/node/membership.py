"""The server's own node as a peer in its network: turns what the registry sends into NetMaps.

Works as a node's link to its server, without a connection: the messages are those of the wire, so that the
registry has one kind of viewer, but no token and no key proof are needed within one process.
"""

from collections.abc import Callable

import trio

from coderd.config.url import ServerUrl
from coderd.coordination.entries import update_message
from coderd.coordination.message import SelfEntry, ServerMessage, Welcome
from coderd.coordination.netmap_client import NetMapClient
from coderd.coordination.registry import Registry
from coderd.coordination.shown_entry import shown_kind
from coderd.coordination.viewer import NodeFacts
from coderd.identity.people import Node
from coderd.model.netmap import NetMap
from coderd.model.reachability import NodeUpdate

LONGEST_SLEEP = 3600.0
"""Seconds to wait for the registry when it names no moment."""


class Membership:
    """Connection of the server's own node to its registry.

    Args:
        registry: the registry of connected nodes.
        node: the server's own identity.
        facts: the keys and the generation of this start.
        relay_url: the server's own relay, as reached from the server itself.
        embedded_region: the map's region of that relay; 0 = there is none.
        on_netmap: called with each new NetMap; must not block or raise.
    """

    def __init__(
        self,
        registry: Registry,
        node: Node,
        facts: NodeFacts,
        *,
        relay_url: ServerUrl,
        embedded_region: int,
        on_netmap: Callable[[NetMap], None],
    ) -> None:
        self._registry = registry
        self._node = node
        self._facts = facts
        self._embedded_region = embedded_region
        self._on_netmap = on_netmap
        self._core = NetMapClient(relay_url)
        self._bell = trio.Event()
        self._connection = registry.connect(node, facts, wake=self._ring)
        self._update: NodeUpdate | None = None

    def update(self, update: NodeUpdate) -> None:
        """Tells the registry the addresses and relay at which the server's node can be reached."""
        message = update_message(update, self._facts.generation)
        now = trio.current_time()
        if self._registry.update(self._connection, message, now) is None:
            self._registry.path_reports.take(self._connection, message, now)

    async def run(self) -> None:
        """Takes the registry's messages until cancelled, or until the registry ends the connection."""
        try:
            self._take(
                Welcome(
                    self=SelfEntry(
                        self._node.node_id,
                        shown_kind(self._node),
                        self._node.full_name,
                        str(self._node.address),
                    ),
                    derp_map=self._registry.derp_map,
                    resume_token="",
                    embedded_region=self._embedded_region,
                )
            )
            while self._connection.end is None:
                await self._step()
        finally:
            self._registry.lost(self._connection)

    async def _step(self) -> None:
        now = trio.current_time()
        if (message := self._registry.poll(self._connection, now)) is not None:
            self._take(message)
            return
        held = self._registry.poll_timeout(self._connection)
        with trio.move_on_at(held.when if held is not None else now + LONGEST_SLEEP):
            await self._bell.wait()
        self._bell = trio.Event()

    def _take(self, message: ServerMessage) -> None:
        if (netmap := self._core.handle_message(message)) is not None:
            self._on_netmap(netmap)

    def _ring(self) -> None:
        self._bell.set()
