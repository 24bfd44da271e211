"""The server among the peers of its own network: what the registry tells it becomes a NetMap.

As a node's link to its server, without the wire: no token, since it is the server; no proof, since nobody else could ask;
the same messages, so that the registry knows one kind of viewer only.
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


class Membership:
    """One connection of the server to its own registry.

    Args:
        registry: who is told, and who tells.
        node: the server's own identity.
        facts: this start's keys and generation.
        relay_url: where the server's own relay is reached from the server itself.
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
        """Says where the server's node can be reached."""
        message = update_message(update, self._facts.generation)
        now = trio.current_time()
        if self._registry.update(self._connection, message, now) is None:
            self._registry.report(self._connection, message, now)

    async def run(self) -> None:
        """Takes what the registry has to say until cancelled, or until the server closes."""
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
