"""Links to the relays: the home one for ever, others while they are used.

Sending never waits. What is sent while a link is being dialled waits in a bounded queue whose oldest packets
go first; a link that breaks takes what it had queued with it, as a network would. Each region has one task,
which dials, runs and dials again; stopping it is cancelling its scope.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from coderd.derp.dial_history import DialHistory
from coderd.derp.io.client import DerpLink
from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes
from coderd.model.backoff import Backoff
from coderd.model.derpmap import DerpMap, DerpRegion
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.transport import DerpTransmit

IDLE_TIMEOUT = 60.0
"""Seconds after the last send that a link which is not home is closed."""
IDLE_CHECK_INTERVAL = 15.0
LONGEST_WAIT = 5.0
"""Seconds between two attempts at one relay, at most."""
PATIENCE = 0.02
STALLED_FOR = 1.0
"""Seconds that a link with a filling queue is waited for, and for which it is not waited for once that was in
vain.
"""
QUEUE_SIZE = 256
"""Packets that wait for a link being dialled."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RelayInfo:
    """One region that this node is connected to, or tries to be."""

    region_id: int
    code: str
    is_connected: bool
    node: str = ""
    """The name of the relay that is reached."""
    why_websocket: str = ""
    """Why it is reached by WebSocket; empty where it is not."""
    failure: str = ""
    """Why the last attempt failed; empty once one has not."""


class RelayReceiver(Protocol):
    """Taker of what happens on the links, each call about one region.

    Called from the links' tasks, in order, and must not wait: a packet that a queue and a wake-up carried to
    its reader would cost more than the reader's work on it.
    """

    def handle_relayed(self, region: int, sender: NodePublic, packets: Sequence[Buffer]) -> None:
        """Takes packets of one sender, in order."""

    def handle_peer_gone(self, region: int, peer: NodePublic) -> None:
        """Notes that the region's relay does not have a peer."""

    def handle_relay_connected(self, region: int) -> None:
        """Notes that a link is up: what is sent to its region now leaves at once."""

    def handle_relay_broken(self, region: int) -> None:
        """Notes that a link that was up is not."""


class RelayLinks:
    """All links of one node.

    Args:
        private: the key that the relays know this node by.
        counters: ``relays.*`` and the links' own.
        rng: for handshakes and jitter.
    """

    def __init__(self, private: NodePrivate, *, counters: Counters, rng: RandomBytes) -> None:
        self._private = private
        self._counters = counters
        self._rng = rng
        self._derp_map = DerpMap()
        self._home = 0
        self._history = DialHistory()
        self._regions: dict[int, _Region] = {}
        self._nursery: trio.Nursery | None = None
        self._receiver: RelayReceiver | None = None

    async def run(
        self, receiver: RelayReceiver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Dials, keeps and closes links until cancelled.

        Args:
            receiver: takes what happens on them.
            task_status: reports that what is sent is dialled for.
        """
        self._receiver = receiver
        try:
            async with trio.open_nursery() as self._nursery:
                self._ensure_home()
                task_status.started()
                while True:
                    await trio.sleep(IDLE_CHECK_INTERVAL)
                    self._close_idle(trio.current_time())
        finally:
            self._nursery = self._receiver = None
            self._regions.clear()

    # Commands

    def set_derp_map(self, derp_map: DerpMap) -> None:
        """Takes a new map. Links to regions that it changes or lacks are cut; home is dialled anew."""
        old, self._derp_map = self._derp_map, derp_map
        for region_id in list(self._regions):
            if derp_map.regions.get(region_id) != old.regions.get(region_id):
                self._regions.pop(region_id).scope.cancel()
        self._ensure_home()

    def set_home(self, region_id: int) -> None:
        """Listens at another region, 0 for none; the old home becomes a link like any other."""
        self._home = region_id
        for entry in self._regions.values():
            entry.used_at = trio.current_time()
            if entry.link is not None:
                entry.link.note_preferred(entry.region.region_id == region_id)
        self._ensure_home()

    def send_nowait(self, transmit: DerpTransmit) -> None:
        """Sends a batch through a region's relay, dialling it first if need be.

        What cannot be sent is counted.
        """
        entry = self._ensure(transmit.region)
        if entry is None:
            self._counters["relays.drop.unknown_region"] += len(transmit.datagrams)
            return
        entry.used_at = trio.current_time()
        if entry.link is not None:
            entry.link.send_nowait(transmit.to, transmit.datagrams)
        else:
            entry.enqueue(transmit, self._counters)

    @property
    def is_crowded(self) -> bool:
        """Whether ``wait_room`` is worth a wait."""
        return any(entry.is_crowded for entry in self._regions.values())

    async def wait_room(self) -> None:
        """Waits for links whose queues are filling.

        The sender pauses meanwhile instead of having packets dropped.

        All peers share what is fed, so a link gets PATIENCE. One that makes no room in that time is slower
        than what is sent to it: it is not waited for again before STALLED_FOR, and its queue drops.
        """
        for entry in list(self._regions.values()):
            if entry.is_crowded and entry.link is not None:
                with trio.move_on_after(PATIENCE) as patience:
                    await entry.link.wait_room()
                if patience.cancelled_caught:
                    self._counters["relays.stalled"] += 1
                    entry.stalled_until = trio.current_time() + STALLED_FOR

    def infos(self) -> tuple[RelayInfo, ...]:
        """Returns every region in use, by number."""
        return tuple(self._regions[region_id].info() for region_id in sorted(self._regions))

    def break_all(self) -> None:
        """Cuts every link, after a change of network for one; those that are wanted are dialled at once."""
        self._history.forget()
        for entry in list(self._regions.values()):
            entry.backoff.reset()
            entry.attempt.cancel()

    # Regions

    def _ensure_home(self) -> None:
        if self._home:
            self._ensure(self._home)

    def _ensure(self, region_id: int) -> "_Region | None":
        """The region's entry, with a task that dials it; None for an unknown region, or while not running."""
        if (entry := self._regions.get(region_id)) is not None:
            return entry
        region = self._derp_map.regions.get(region_id)
        if region is None or self._nursery is None or self._receiver is None:
            return None
        entry = self._regions[region_id] = _Region(
            region, Backoff(self._rng, longest=LONGEST_WAIT), trio.current_time()
        )
        self._nursery.start_soon(self._keep, entry, self._receiver)
        return entry

    def _close_idle(self, now: float) -> None:
        for region_id, entry in list(self._regions.items()):
            if not self._is_wanted(entry, now):
                log.debug("relay link idle", region=entry.region.code)
                del self._regions[region_id]
                entry.scope.cancel()

    def _is_wanted(self, entry: "_Region", now: float) -> bool:
        return entry.region.region_id == self._home or now - entry.used_at < IDLE_TIMEOUT

    async def _keep(self, entry: "_Region", receiver: RelayReceiver) -> None:
        """Runs one region's task: dials, runs, waits, dials again, until the region is not wanted."""
        with entry.scope:
            while self._is_wanted(entry, trio.current_time()):
                with trio.CancelScope() as entry.attempt:
                    await self._run_once(entry, receiver)
                    await trio.sleep(entry.backoff.next_delay())
        self._forget(entry)

    def _forget(self, entry: "_Region") -> None:
        """Only if it is this very entry: a new one may have taken the region over meanwhile."""
        if self._regions.get(entry.region.region_id) is entry:
            del self._regions[entry.region.region_id]
        entry.drop_queue(self._counters)

    async def _run_once(self, entry: "_Region", receiver: RelayReceiver) -> None:
        """One link, from dialling to its end."""
        region = entry.region
        try:
            link = await DerpLink.connect(
                region,
                self._private,
                is_home=region.region_id == self._home,
                rng=self._rng,
                counters=self._counters,
                history=self._history,
                force_websocket=self._derp_map.force_websockets,
            )
        except OSError as error:
            self._counters["relays.dial_failed"] += 1
            entry.note_failure(str(error))
            return
        started_at = trio.current_time()
        entry.open(link)
        link.note_preferred(region.region_id == self._home)
        log.info("relay connected", region=region.code, node=link.node.name, by=_by(link))
        try:
            receiver.handle_relay_connected(region.region_id)
            why = await link.run(_Handler(region.region_id, receiver))
            log.info("relay link broken", region=region.code, reason=why)
        finally:
            entry.link = None
            entry.backoff.handle_connection_ended(trio.current_time() - started_at)
            receiver.handle_relay_broken(region.region_id)


class _Region:
    """One region: its link if there is one, else what waits for it."""

    def __init__(self, region: DerpRegion, backoff: Backoff, now: float) -> None:
        self.region = region
        self.backoff = backoff
        self.used_at = now
        self.link: DerpLink | None = None
        self.scope = trio.CancelScope()
        """The region's task."""
        self.attempt = trio.CancelScope()
        """The present link, or the wait for the next."""
        self.stalled_until = 0.0
        self._waiting: deque[tuple[NodePublic, bytes]] = deque()
        self._failure = ""

    @property
    def is_crowded(self) -> bool:
        """Whether the link's queue is filling, and the link is one that gets rid of things."""
        return self.link is not None and self.link.is_crowded and trio.current_time() >= self.stalled_until

    def info(self) -> RelayInfo:
        """For people."""
        region = self.region
        if self.link is None:
            return RelayInfo(region.region_id, region.code, is_connected=False, failure=self._failure)
        return RelayInfo(
            region.region_id,
            region.code,
            is_connected=True,
            node=self.link.node.name,
            why_websocket=self.link.why_websocket,
        )

    def enqueue(self, transmit: DerpTransmit, counters: Counters) -> None:
        """Keeps packets until a link is up; the oldest give way."""
        self._waiting.extend((transmit.to, datagram) for datagram in transmit.datagrams)
        while len(self._waiting) > QUEUE_SIZE:
            self._waiting.popleft()
            counters["relays.drop.dialling"] += 1

    def open(self, link: DerpLink) -> None:
        """A link is up: sends what waited, in order."""
        self.link = link
        self._failure = ""
        while self._waiting:
            to, datagram = self._waiting.popleft()
            link.send_nowait(to, [datagram])

    def drop_queue(self, counters: Counters) -> None:
        """Drops and counts the packets that wait for a link, as it will not be dialled any more."""
        counters["relays.drop.dialling"] += len(self._waiting)
        self._waiting.clear()

    def note_failure(self, reason: str) -> None:
        """Logs why the relay cannot be reached, once per reason."""
        if reason != self._failure:
            log.warning("relay unreachable", region=self.region.code, reason=reason)
        self._failure = reason


def _by(link: DerpLink) -> str:
    return f"WebSocket, because {link.why_websocket}" if link.why_websocket else "upgrade"


class _Handler:
    """Names the region to what its link delivers."""

    def __init__(self, region_id: int, receiver: RelayReceiver) -> None:
        self._region_id = region_id
        self._receiver = receiver

    def on_packets(self, sender: NodePublic, packets: list[bytes]) -> None:
        self._receiver.handle_relayed(self._region_id, sender, packets)

    def on_peer_gone(self, key: NodePublic, reason: int) -> None:
        self._receiver.handle_peer_gone(self._region_id, key)
