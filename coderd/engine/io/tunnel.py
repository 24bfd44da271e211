"""One identity's tunnel: WireGuard, paths, sockets, relays and the loop between them, and what may be asked of it.

Owns the parts and drains them; nobody else touches them. Commands are synchronous and end in ``Driver.drain``, so each
takes effect before it returns. The NetMap comes from above and is never changed here.
"""

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
import trio

from coderd.engine.admission import inbound_policies
from coderd.engine.dataplane import DataPlane, PlaneEvent
from coderd.engine.introduction import SecretTold
from coderd.engine.io.driver import Driver
from coderd.engine.io.proofs import Proofs
from coderd.engine.roster import Roster
from coderd.http.dialer import mark_connections
from coderd.magicsock import (
    Conn,
    ConnEvent,
    DiscoUnreadable,
    EndpointsChanged,
    HomeChanged,
    HttpsProbeWanted,
    NetcheckDone,
    PathChanged,
    PathLost,
    PingReply,
    PortOrder,
    RelayFound,
    Slept,
    SocketsUnwanted,
    SocketsWanted,
)
from coderd.magicsock.io.interfaces import NetworkView, watch_interfaces
from coderd.magicsock.io.relays import RelayInfo, RelayLinks
from coderd.magicsock.io.sockets import UdpSockets
from coderd.metrics import Counters
from coderd.model.addresses import AddrPort
from coderd.model.derpmap import DerpMap
from coderd.model.errors import UserError
from coderd.model.keys import DiscoPrivate, DiscoPublic, NodePrivate, NodePublic
from coderd.model.netmap import Capability, NetMap, Peer
from coderd.model.paths import PathInfo, PathKind, Pin
from coderd.model.ports import NO_PORTS, PortSet
from coderd.model.reachability import NodeUpdate, PeerPath
from coderd.model.transport import SocketId
from coderd.netcheck import HostAddresses, Report
from coderd.netcheck.io import https_latency
from coderd.packetfilter import PacketFilter
from coderd.packetfilter.io import ephemeral_ports
from coderd.tun.io.device import TunDevice
from coderd.wireguard import Device, PeerStatus
from coderd.wireguard.tai64n import next_mark, stamp_of

INTERFACE_GONE = "interface_gone"
"""Code of the error that no other identity could mend either: the process has to start again."""

CAPABILITIES = (Capability.PACKET_FILTER, Capability.TUNNEL_SECRET)
"""What every tunnel of this program can do, for its node's hello."""

_HANDSHAKE_FAILURES = {
    "no_answer": "wireguard.gave_up",
    "refused": "wireguard.drop.handshake_refused",
    "unknown_peer": "wireguard.drop.unknown_peer",
    "rate": "wireguard.drop.handshake_rate",
    "mac1": "wireguard.drop.mac1",
    "queue_full": "wireguard.drop.handshake_queue_full",
}
"""Causes as the server knows them, and our counters."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pong:
    """An answered ping: by which path, in how many seconds."""

    path: PathInfo
    latency: float


class Tunnel:
    """The data plane of one session.

    Args:
        node_key: this identity's key.
        tun: the opened device; it outlives the tunnel.
        listen_port: preferred UDP port, None for 41641 or any.
        on_update: told whenever the server should know something new about this node.
        on_moved: told that this host's way out is another: connections of before are worth nothing.
        on_introduced: told of a peer that has restarted and said so itself, as it is now.
        on_path: told that some peer's path is another.
        tai64n_mark: no handshake before this life had a later timestamp; None for none.
        on_mark: told the mark to keep from now on.
        plays_birthday: whether random ports may cost hundreds of sockets and pings.
    """

    def __init__(
        self,
        node_key: NodePrivate,
        tun: TunDevice,
        *,
        mtu: int,
        listen_port: int | None,
        on_update: Callable[[NodeUpdate], None],
        on_moved: Callable[[], None],
        on_introduced: Callable[[Peer], None],
        on_path: Callable[[], None],
        tai64n_mark: bytes | None,
        on_mark: Callable[[bytes], None],
        plays_birthday: bool = False,
    ) -> None:
        now = trio.current_time()
        self.counters: Counters = Counter()
        disco_private = DiscoPrivate.generate(os.urandom)
        self.disco_key: DiscoPublic = disco_private.public()
        self.generation = int.from_bytes(os.urandom(8))
        self._interface = tun.name
        self._on_update = on_update
        self._on_moved = on_moved
        self._on_introduced = on_introduced
        self._on_path = on_path
        self._on_mark = on_mark
        self._mark = tai64n_mark
        self._last_stamp = tai64n_mark
        self._pins: dict[NodePublic, list[Pin]] = {}
        self._pings: dict[int, tuple[trio.Event, list[Pong]]] = {}
        self._last_token = 0
        self._endpoints: tuple[tuple[AddrPort, int], ...] = ()
        self._home_region = 0
        self._latencies: dict[int, float] = {}
        self._derp_map = DerpMap()
        self._checked = trio.Event()
        self.report: Report | None = None
        """What the last finished netcheck found."""
        self.here = HostAddresses()
        """This host's addresses."""
        self.resolved: Mapping[str, tuple[str, ...]] = {}
        """Addresses of the relays' host names."""
        self._nursery: trio.Nursery | None = None

        self._sockets = _open_sockets(listen_port, self.counters)
        self._device = Device(
            rng=os.urandom, now=now, mtu=mtu, counters=self.counters, tai64n_floor=tai64n_mark
        )
        self._device.set_private_key(node_key, now)
        self._conn = Conn(
            node_key=node_key.public(),
            disco_key=disco_private,
            rng=os.urandom,
            now=now,
            tunnel_mtu=mtu,
            counters=self.counters,
            plays_birthday=plays_birthday,
        )
        self._roster = Roster(
            self._device,
            self._conn,
            disco_key=self.disco_key,
            generation=self.generation,
            rng=os.urandom,
            counters=self.counters,
        )
        self._alarm = trio.CancelScope()
        self._proofs = Proofs(self._roster.secrets, self._ask_secret)
        self._links = RelayLinks(
            node_key,
            on_packets=self._handle_relayed,
            on_peer_gone=self._handle_peer_gone,
            on_connected=self._handle_relay_connected,
            on_broken=self._handle_relay_broken,
            counters=self.counters,
            rng=os.urandom,
        )
        self._filter = PacketFilter(counters=self.counters, ephemeral=ephemeral_ports())
        self._driver = Driver(
            DataPlane(
                self._device,
                self._conn,
                uso=tun.offloads.uso,
                counters=self.counters,
                takes_introductions=True,
                packet_filter=self._filter,
            ),
            tun,
            self._sockets,
            self._links,
            on_event=self._handle_plane_event,
            on_drained=self._handle_drained,
            on_send_error=self._conn.handle_send_error,
            counters=self.counters,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carries packets until cancelled. Raises UserError if the interface is deleted under us."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._keep_mark(stamp_of(time.time()))
                self._device.up(trio.current_time())
                await nursery.start(self._driver.run)
                nursery.start_soon(self._links.run)
                nursery.start_soon(self._watch_network)
                nursery.start_soon(self._run_alarm)
                task_status.started()
        except BaseExceptionGroup as group:
            if group.subgroup(_is_interface_gone) is None:
                raise
            raise _interface_gone(self._interface) from None
        finally:
            self._nursery = None
            self.close()
            if self._device.tai64n_mark is not None:
                self._on_mark(
                    self._device.tai64n_mark
                )  # a known end: what was sent last, and not an hour ahead

    def close(self) -> None:
        """Closes the sockets; ``run`` does so itself at its end."""
        self._sockets.close()

    # Commands

    def set_netmap(self, netmap: NetMap, accepted: PortSet = NO_PORTS, *, is_workspace: bool = False) -> None:
        """Makes the peers those of the map. A peer that restarted loses its sessions, and the user's side calls at once.

        Args:
            netmap: what the server says.
            accepted: the ports that peers may connect to, where this node is no workspace.
            is_workspace: whether this machine was made a workspace, and so obeys the map in that.
        """
        policies = inbound_policies(netmap, accepted, is_workspace=is_workspace)
        self._filter.set_peers(netmap.self_node.address.packed, policies, trio.current_time())
        self._roster.set_netmap(netmap, trio.current_time(), time.time())
        for key in self._pins.keys() & self._roster.keys():
            self._conn.pin_path(key, self._pin_of(key))
        self._driver.drain()

    def set_derp_map(self, derp_map: DerpMap, resolved: Mapping[str, tuple[str, ...]]) -> None:
        """Tells paths and links about the relays; ``resolved`` has the addresses of their host names."""
        self._derp_map, self.resolved = derp_map, resolved
        self._links.set_derp_map(derp_map)
        self._conn.set_derp_map(derp_map, resolved, trio.current_time())
        self._driver.drain()

    @contextmanager
    def pinned(self, peer: NodePublic, path: Pin) -> Iterator[None]:
        """Keeps what we send to a peer on one kind of path meanwhile. Of several wishes at once the first counts."""
        self._pins.setdefault(peer, []).append(path)
        self._pin(peer)
        try:
            yield
        finally:
            self._pins[peer].remove(path)
            if not self._pins[peer]:
                del self._pins[peer]
            self._pin(peer)

    async def ping(self, peer: NodePublic, timeout: float) -> Pong | None:
        """Pings by the best path now; None after ``timeout`` seconds without an answer."""
        self._last_token += 1
        token, event, answer = self._last_token, trio.Event(), list[Pong]()
        self._pings[token] = (event, answer)
        try:
            self._conn.ping(peer, token, trio.current_time())
            self._driver.drain()
            with trio.move_on_after(timeout):
                await event.wait()
            return answer[0] if answer else None
        finally:
            del self._pings[token]

    def rebind(self) -> None:
        """As after a change of network: forgets all trust in paths and measures anew."""
        self._conn.handle_rebound(trio.current_time())
        self._driver.drain()

    def check(self) -> None:
        """Measures the network anew: a full netcheck."""
        self._conn.check(trio.current_time())
        self._driver.drain()

    async def netcheck(self, timeout: float, *, max_age: float = 0.0) -> Report | None:
        """A report begun now, or not longer ago than ``max_age``; None where there is none within ``timeout`` seconds."""
        oldest = trio.current_time() - max_age
        with trio.move_on_after(timeout):
            if self.report is None or self.report.started_at < oldest:
                self.check()
            while self.report is None or self.report.started_at < oldest:
                await self._checked.wait()
            return self.report
        return None

    def set_server_connected(self, is_connected: bool) -> None:
        """Whether the server is there, to tell peers where we live."""
        self._conn.set_can_tell(is_connected)

    def break_relays(self) -> None:
        """Cuts every relay link; they are dialled again."""
        self._links.break_all()

    # Who comes from whose daemon

    def secret_for(self, peer: NodePublic) -> str:
        """What whoever comes from this node shows at a peer's port 3 or 4: hex, for those whom the control socket allows."""
        return self._roster.secrets.ours(peer).hex()

    async def proves(self, peer: Peer, shown: str) -> bool:
        """Whether who shows this comes by way of a peer's daemon; see ``Proofs``."""
        return await self._proofs.proves(peer, shown)

    def _ask_secret(self, peer: NodePublic) -> None:
        self._roster.ask_secret(peer, trio.current_time(), time.time())
        self._driver.drain()

    # Looking

    def path(self, peer: NodePublic) -> PathInfo:
        """How a peer is reached now, and the bytes moved each way by kind of path."""
        return self._conn.path(peer)

    def paths(self) -> Iterator[PeerPath]:
        """How every peer is reached now, and whether it is being used."""
        for key, path, is_used in self._conn.paths(trio.current_time()):
            if (peer := self._roster.get(key)) is not None:
                yield PeerPath(peer.node_id, path, is_used)

    def handshake_failures(self) -> dict[str, int]:
        """Handshakes that came to nothing since the start, by cause."""
        counts = {cause: self.counters[name] for cause, name in _HANDSHAKE_FAILURES.items()}
        return {cause: count for cause, count in counts.items() if count}

    def wireguard(self, peer: NodePublic) -> PeerStatus | None:
        """WireGuard's view of a peer; None if it is no peer."""
        return self._device.status(trio.current_time()).peer(peer)

    @property
    def home_region(self) -> int:
        """The relay region we listen at; 0 while unknown."""
        return self._home_region

    @property
    def is_relay_connected(self) -> bool:
        """Whether the link to the home relay is up."""
        return self._home_region in self._conn.status(trio.current_time()).connected_regions

    @property
    def relays(self) -> tuple[RelayInfo, ...]:
        """The relays that are connected or dialled, and how."""
        return self._links.infos()

    def is_narrow(self, peer: NodePublic) -> bool:
        """Whether a peer answers small datagrams directly, and none of the tunnel's size."""
        return self._conn.has_mtu_black_hole(peer, trio.current_time())

    @property
    def port_order(self) -> PortOrder:
        """How our NAT chooses ports, as far as that was found out."""
        return self._conn.port_order(trio.current_time())

    @property
    def has_ipv6_socket(self) -> bool:
        """Whether this host could bind an IPv6 port."""
        return self._sockets.v6_port is not None

    @property
    def endpoints(self) -> tuple[AddrPort, ...]:
        """Where we may be reached directly."""
        return tuple(addr for addr, _ in self._endpoints)

    @property
    def udp_port(self) -> int:
        """The bound UDP port."""
        return self._sockets.v4_port or self._sockets.v6_port or 0

    # What the parts report

    def _handle_relayed(
        self, region: int, sender: NodePublic, packets: list[bytes | bytearray | memoryview]
    ) -> None:
        self._driver.handle_relayed(region, sender, packets)

    def _handle_peer_gone(self, region: int, peer: NodePublic) -> None:
        self._conn.handle_peer_gone(region, peer, trio.current_time())
        self._driver.drain()

    def _handle_relay_connected(self, region: int) -> None:
        self._conn.handle_relay_connected(region, trio.current_time())
        self._driver.drain()

    def _handle_relay_broken(self, region: int) -> None:
        self._conn.handle_relay_broken(region, trio.current_time())
        self._driver.drain()

    def _handle_plane_event(self, event: PlaneEvent) -> None:
        peer = self._roster.get(event.peer)
        log.debug(type(event).__name__, peer=peer.name if peer is not None else event.peer.short)
        if (changed := self._roster.handle_event(event, trio.current_time(), time.time())) is not None:
            self._on_introduced(changed)
        if isinstance(event, SecretTold):
            self._proofs.handle_told()
        self._driver.drain()

    def _handle_drained(self) -> None:
        if (stamp := self._device.tai64n_mark) is not self._last_stamp and stamp is not None:
            self._last_stamp = stamp
            self._keep_mark(stamp)
        while (event := self._conn.poll_event()) is not None:
            self._handle_conn_event(event)
        deadline = self._roster.poll_timeout()
        self._alarm.deadline = deadline.when if deadline is not None else float("inf")

    async def _run_alarm(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._alarm.deadline) as self._alarm:
                await trio.sleep_forever()
            self._roster.handle_timeout(trio.current_time(), time.time())
            self._driver.drain()

    def _keep_mark(self, last: bytes) -> None:
        if (mark := next_mark(self._mark, last)) is not None:
            self._mark = mark
            self._on_mark(mark)

    def _handle_conn_event(self, event: ConnEvent) -> None:
        match event:
            case EndpointsChanged():
                self._endpoints = event.endpoints
                self._report()
            case HomeChanged():
                self._home_region = event.region
                self._links.set_home(event.region)
                self._report()
            case NetcheckDone():
                self._latencies = dict(event.report.region_latency)
                self.report = event.report
                self._checked.set()
                self._checked = trio.Event()
                self._report()
            case PathChanged():
                log.info("path changed", peer=event.peer.short, kind=event.path.kind.value)
                self._on_path()
                if event.path.kind is PathKind.DIRECT:
                    self._roster.handle_path_found(event.peer, trio.current_time())
                    self._driver.drain()
            case PingReply():
                if (waiting := self._pings.get(event.token)) is not None:
                    waiting[1].append(Pong(event.path, event.latency))
                    waiting[0].set()
            case Slept():
                log.info("slept", seconds=round(event.seconds))
                self._links.break_all()
                self._on_moved()
            case SocketsWanted():
                if self._nursery is not None:
                    self._nursery.start_soon(self._open_spare, event.sockets)
            case SocketsUnwanted():
                self._close_spare(event.sockets)
            case DiscoUnreadable():
                self._roster.handle_unreadable(event.peer, trio.current_time(), time.time())
                self._driver.drain()
            case RelayFound():
                self._roster.handle_path_found(event.peer, trio.current_time())
                self._driver.drain()
            case PathLost():
                self._roster.handle_path_lost(event.peer, trio.current_time(), time.time())
                self._driver.drain()
            case HttpsProbeWanted():
                if self._nursery is not None:
                    self._nursery.start_soon(self._measure_https, event.region)

    def _report(self) -> None:
        self._on_update(NodeUpdate(self._home_region, self._endpoints, self._latencies))

    async def _open_spare(self, numbers: tuple[SocketId, ...]) -> None:
        opened = []
        for number in numbers:
            if (sock := self._sockets.open_spare(number)) is not None:
                self._driver.read_also(sock)
                opened.append(number)
        self._conn.handle_sockets_opened(opened, trio.current_time())
        self._driver.drain()

    def _close_spare(self, numbers: tuple[SocketId, ...]) -> None:
        for number in numbers:
            if (sock := self._sockets.spare(number)) is not None:
                self._driver.stop_reading(sock)
                self._sockets.close_spare(number)

    async def _measure_https(self, region_id: int) -> None:
        region = self._derp_map.regions.get(region_id)
        latency = await https_latency(region) if region is not None else None
        self._conn.handle_https_latency(region_id, latency, trio.current_time())
        self._driver.drain()

    async def _watch_network(self) -> None:
        seen: NetworkView | None = None
        async for view in watch_interfaces(ignore=self._interface):
            now = trio.current_time()
            self.here = HostAddresses(frozenset(view.addresses), frozenset(view.tunnels))
            self._sockets.mark(view.marks)
            mark_connections(*view.marks)
            self._conn.set_local_endpoints(
                self._sockets.v4_port, self._sockets.v6_port, view.addresses, now, view.tunnels
            )
            # At the first look, what was dialled without the marks already is inside the tunnel that they lead past.
            if any(view.marks) if seen is None else not view.is_same_way_out(seen):
                log.info("network changed")
                self._conn.handle_rebound(now)
                self._links.break_all()
                self._on_moved()
            seen = view
            self._driver.drain()

    def _pin(self, peer: NodePublic) -> None:
        self._conn.pin_path(peer, self._pin_of(peer))
        self._driver.drain()

    def _pin_of(self, peer: NodePublic) -> Pin:
        """Two tests at once must not undo each other's wish; a wish for any path wishes nothing."""
        return next((path for path in self._pins.get(peer, ()) if path is not Pin.ANY), Pin.ANY)


def _open_sockets(listen_port: int | None, counters: Counters) -> UdpSockets:
    try:
        return UdpSockets.open(listen_port, counters=counters)
    except OSError as error:
        raise UserError(
            f"no UDP socket can be opened: {error.strerror or error}",
            hint="Choose another port with --listen-port, or leave it out.",
            code="no_udp",
        ) from None


def _is_interface_gone(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EBADFD


def _interface_gone(name: str) -> UserError:
    return UserError(
        f"the network interface {name} was deleted while the daemon used it",
        hint="Start the daemon again: it makes the interface anew.",
        code=INTERFACE_GONE,
    )
