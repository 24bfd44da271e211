"""``DerpLink``: a node's connection to one region's relay."""

from collections.abc import Sequence
from typing import Final, Protocol, Self

import structlog
import trio

from coderd.derp.client import QUEUE_PACKETS, DerpClient, Health, Packets
from coderd.derp.dial_history import DialHistory
from coderd.derp.dial_plan import dial_plans
from coderd.derp.frame import PeerGone, Restarting
from coderd.derp.io.opening import READ_SIZE, MakeClient, Opened, open_node, reason
from coderd.derp.upgrade import WHY_FORCED
from coderd.metrics import Counters
from coderd.model import RandomBytes
from coderd.model.derpmap import DerpNode, DerpRegion
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, NodePublic, ServerPublic

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for reaching a region: name, TCP, TLS, upgrade and admission, of all its nodes that are tried."""
CROWDED: Final = QUEUE_PACKETS // 2
ROOMY: Final = QUEUE_PACKETS // 8
"""Waiting packets: a link is crowded at CROWDED of them, and has room again at ROOMY."""
CLOSED_BY_RELAY: Final = "the relay closed the connection"
RESTARTING: Final = "the relay restarts"

_log = structlog.get_logger(__name__)


class DerpHandler(Protocol):
    """Receiver of a link's packets and PeerGone frames, called in order from one task; must not wait."""

    def on_packets(self, sender: NodePublic, packets: list[bytes]) -> None:
        """Handles packets of one sender, in the order of their arrival."""

    def on_peer_gone(self, key: NodePublic, reason: int) -> None:
        """Handles that a peer has left this relay, or is not connected to it (``PeerGoneReason``)."""


class DerpLink:
    """An admitted connection to one region's relay.

    Attributes:
        region: the region as it was when dialled.
        node: the relay of the region that was reached.
        why_websocket: why the bytes go in WebSocket messages; empty where the upgrade to DERP worked.
    """

    def __init__(self, region: DerpRegion, node: DerpNode, opened: Opened, history: DialHistory) -> None:
        self.region = region
        self.node = node
        self.why_websocket = opened.why_websocket
        self._stream = opened.stream
        self._client = opened.client
        self._history = history
        self._woken = trio.Event()
        self._roomy = trio.Event()
        self._why = ""

    @classmethod
    async def connect(
        cls,
        region: DerpRegion,
        private: NodePrivate,
        *,
        is_home: bool,
        rng: RandomBytes,
        counters: Counters | None = None,
        history: DialHistory | None = None,
        force_websocket: bool = False,
    ) -> Self:
        """Dials the region's nodes in order and returns once a relay has admitted this node.

        Args:
            region: the region of the relay map.
            private: this node's key.
            is_home: whether the region is this node's home.
            rng: randomness for nonces and pings.
            counters: ``derp.drop.*``.
            history: outcomes of earlier dials; that of this one is noted in it.
            force_websocket: whether to dial by WebSocket without trying the upgrade.

        Raises:
            OSError: the first node's failure, where each could not be reached, refused this node, or is not a
                relay.
        """
        history = DialHistory() if history is None else history

        def make_client(server_key: ServerPublic | None) -> DerpClient:
            return DerpClient(
                private,
                is_home=is_home,
                rng=rng,
                now=trio.current_time(),
                counters=counters,
                server_key=server_key,
            )

        node, opened = await _open_region(
            region, make_client, history, force_websocket=force_websocket, rng=rng
        )
        return cls(region, node, opened, history)

    @property
    def server_key(self) -> ServerPublic | None:
        """The relay's public key, as its ServerKey says."""
        return self._client.server_key

    def send_nowait(self, to: NodePublic, packets: Sequence[bytes]) -> None:
        """Queues packets for a peer; the oldest of a full queue are dropped and counted."""
        self._client.send(to, packets, trio.current_time())
        self._woken.set()

    @property
    def is_crowded(self) -> bool:
        """Whether half of the queue's packets wait to be written."""
        return self._client.n_waiting >= CROWDED

    async def wait_room(self) -> None:
        """Waits until at most ROOMY packets are in the queue; for ever if the link breaks first."""
        while self._client.n_waiting > ROOMY:
            await self._roomy.wait()

    def note_preferred(self, home: bool) -> None:
        """Sends the relay NotePreferred, whether it is this node's home, if that has changed."""
        self._client.note_preferred(home)
        self._woken.set()

    async def run(self, handler: DerpHandler) -> str:
        """Sends and receives packets until the link breaks; returns why it did, with the stream closed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                nursery.start_soon(self._watch, nursery.cancel_scope)
                await self._read(handler)
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(self._stream)
        return self._why or "closed"

    async def aclose(self) -> None:
        """Closes the connection, so that ``run`` returns."""
        await trio.aclose_forcefully(self._stream)
        self._woken.set()

    async def _read(self, handler: DerpHandler) -> None:
        try:
            await self._work_off(b"", handler)  # frames that came behind ServerInfo
            while data := await self._stream.receive_some(READ_SIZE):
                await self._work_off(data, handler)
            self._break(CLOSED_BY_RELAY)
        except (MalformedPacket, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._break(reason(error))

    async def _work_off(self, data: bytes | bytearray, handler: DerpHandler) -> None:
        """Handles the frames of one read, with a checkpoint between turns: they may be tiny and many."""
        is_more = self._client.handle_data(data, trio.current_time())
        self._dispatch(handler)
        self._woken.set()
        while is_more:
            await trio.lowlevel.checkpoint()
            is_more = self._client.handle_data(b"", trio.current_time())
            self._dispatch(handler)

    def _dispatch(self, handler: DerpHandler) -> None:
        while (event := self._client.poll_event()) is not None:
            if isinstance(event, Packets):
                handler.on_packets(event.sender, event.packets)
            elif isinstance(event, PeerGone):
                handler.on_peer_gone(event.key, event.reason)
            elif isinstance(event, Health) and event.problem:
                _log.info("derp.health", region=self.region.code, problem=event.problem)
            elif isinstance(event, Restarting):
                self._break(RESTARTING)

    async def _write(self, everything: trio.CancelScope) -> None:
        """Writes the frames that wait, as ``poll_transmit`` joins them, until the stream breaks."""
        try:
            while True:
                data = self._client.poll_transmit()
                if data is None:
                    self._woken = trio.Event()
                    await self._woken.wait()
                else:
                    await self._stream.send_all(data)
                if self._client.n_waiting <= ROOMY:
                    self._roomy.set()
                    self._roomy = trio.Event()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._break(reason(error))
            everything.cancel()

    async def _watch(self, everything: trio.CancelScope) -> None:
        """Sends a silent relay pings, and breaks the link if it stays silent.

        A task apart from the writer's, which a dead relay would block.
        """
        try:
            while True:
                deadline = self._client.poll_timeout()
                await trio.sleep_until(deadline.when)
                self._client.handle_timeout(trio.current_time())
                self._woken.set()
        except MalformedPacket as error:
            self._history.note_failed(self.node, trio.current_time())
            self._break(reason(error))
            everything.cancel()

    def _break(self, why: str) -> None:
        """Sets why the link broke, unless a reason was set before."""
        self._why = self._why or why


async def _open_region(
    region: DerpRegion,
    make_client: MakeClient,
    history: DialHistory,
    *,
    force_websocket: bool,
    rng: RandomBytes,
) -> tuple[DerpNode, Opened]:
    """Tries nodes one by one until one admits this node, noting each outcome.

    Raises OSError, the first node's.
    """
    failures: list[OSError] = []
    node: DerpNode | None = None
    with trio.move_on_after(CONNECT_TIMEOUT) as timeout:
        for plan in history.in_order(dial_plans(region), trio.current_time()):
            node = plan.node
            detour = WHY_FORCED if force_websocket else history.detour(node, trio.current_time())
            try:
                opened = await open_node(
                    plan, make_client, ideal_node=region.nodes[0].name, detour=detour, rng=rng
                )
            except OSError as failure:
                history.note_failed(node, trio.current_time())
                failures.append(failure)
                continue
            history.note_reached(node)
            if opened.is_lesson:
                history.note_detour(node, opened.why_websocket, trio.current_time())
            return node, opened
    if timeout.cancelled_caught and node is not None:
        history.note_failed(node, trio.current_time())
        failures.append(TimeoutError(f"relay {region.code} did not answer within {CONNECT_TIMEOUT:.0f} s"))
    raise failures[0] if failures else OSError(f"region {region.code} has no relay")
