"""A node as one pure machine, from its NetMap to its datagrams: the shell adds sockets, streams and clocks, no decision.

```
 the server's NetMap ->  +--------------------------- Node ---------------------------+  -> TellServer, SaveMark,
 network changes     ->  |  Roster       who the peers are, who restarted, secrets    |     NetMapChanged, Redial,
 relay links         ->  |  PacketFilter what each peer may begin                     |     ListenAt, OpenSockets, ...
 ping, pin, check    ->  |  DataPlane    Device (WireGuard) over Conn (paths)         |
                         |                                                            |
 TUN reads           ->  |  split, seal ................................. choose path |  -> UDP, relays: poll_transmit
 UDP, relays         ->  |  coalesce, admit, open ....................................|  -> TUN writes: poll_tun
                         +------------------------------------------------------------+
```

**Owns** the WireGuard device, the paths, the data plane between them, the packet filter, the roster with its tunnel
secrets, the pins, and the NetMap in force: the server's, with what restarted peers have said of themselves since. Nothing
outside touches these; what is looked at from outside is frozen.

**In** go commands (``set_netmap``, ``ping``, ``pin`` …) and what happened (``handle_*``), in any order, each with ``now``
in seconds on one monotonic clock, and ``unix_now``, the wall clock, where a handshake may follow.

**Out** comes, after ``drain``: ``poll_transmit`` and ``poll_tun``, the data; then ``poll_command``, what the shell must
do; each until None. What a command brings back (an opened socket, a measured latency) is one more thing that happened,
and calls for another ``drain``.

**Draining** is a loop, never entered twice: packets cross the walls, then one event of a child ends here (it changes
another child or becomes a command), and so on until no child has one. At most ``EVENTS_PER_TURN`` end in one ``drain``;
where more are left, ``poll_timeout`` is due at once, so that readers of sockets have their turn between.

**The clock** is one deadline (``poll_timeout``), the earliest of all children's, which says why; ``handle_timeout`` fires
whatever is due.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from coderd import magicsock
from coderd.engine import commands
from coderd.engine.admission import admit
from coderd.engine.commands import Command
from coderd.engine.dataplane import DataPlane, PathTransmit, PlaneEvent
from coderd.engine.introduction import SecretTold
from coderd.engine.own_reach import OwnReach
from coderd.engine.pins import Pins
from coderd.engine.roster import Roster
from coderd.magicsock import Conn, ConnEvent, PortOrder
from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline, earliest
from coderd.model.derpmap import DerpMap
from coderd.model.keys import DiscoPrivate, DiscoPublic, NodePrivate, NodePublic
from coderd.model.netmap import Capability, NetMap
from coderd.model.paths import PathInfo, PathKind, Pin
from coderd.model.ports import NO_PORTS, PortSet
from coderd.model.reachability import PeerPath
from coderd.model.transport import SocketId, UdpSource
from coderd.netcheck import Report
from coderd.packetfilter import PacketFilter
from coderd.wireguard import Device, PeerStatus
from coderd.wireguard.tai64n import next_mark, stamp_of

CAPABILITIES: Final = (Capability.PACKET_FILTER, Capability.TUNNEL_SECRET)
"""What every node of this program can do, as it tells the server."""

EVENTS_PER_TURN: Final = 512
"""Events of children that end in one ``drain``: each costs some 10 us, so that a turn lasts a few milliseconds."""


class Node:
    """One identity's WireGuard, paths, packet filter and NetMap, drained as one.

    Args:
        key: the identity's private key.
        packet_filter: decides what peers may begin; new, and this node's alone.
        rng: for keys, secrets, nonces and jitter.
        now: seconds on the clock of every later ``now``.
        mtu: of the tunnel, in bytes.
        counters: drops by reason, and what was carried.
        uso: whether the kernel takes UDP super-packets on TUN writes.
        tai64n_mark: no handshake before this start had a later timestamp; None for none.
        plays_birthday: whether random ports may cost hundreds of sockets and pings.

    Attributes:
        disco_key: this start's.
        generation: this start's random number, by which peers distinguish it from the last.
        netmap: the NetMap in force; None before the first.
        secrets: by which ports 3 and 4 recognise connections that come by a peer's daemon, and it ours.
    """

    def __init__(
        self,
        key: NodePrivate,
        packet_filter: PacketFilter,
        *,
        rng: RandomBytes,
        now: float,
        mtu: int,
        counters: Counters,
        uso: bool = False,
        tai64n_mark: bytes | None = None,
        plays_birthday: bool = False,
    ) -> None:
        disco_key = DiscoPrivate.generate(rng)
        self.disco_key: DiscoPublic = disco_key.public()
        self.generation = int.from_bytes(rng(8))
        self.netmap: NetMap | None = None
        self._filter = packet_filter
        self._device = Device(rng=rng, now=now, mtu=mtu, counters=counters, tai64n_floor=tai64n_mark)
        self._device.set_private_key(key, now)
        self._conn = Conn(
            node_key=key.public(),
            disco_key=disco_key,
            rng=rng,
            now=now,
            tunnel_mtu=mtu,
            counters=counters,
            plays_birthday=plays_birthday,
        )
        self._plane = DataPlane(
            self._device,
            self._conn,
            uso=uso,
            counters=counters,
            takes_introductions=True,
            packet_filter=packet_filter,
        )
        self._roster = Roster(
            self._device,
            self._conn,
            disco_key=self.disco_key,
            generation=self.generation,
            rng=rng,
            counters=counters,
        )
        self.secrets = self._roster.secrets
        self._pins = Pins()
        self._reach = OwnReach()
        self._derp_map = DerpMap()
        """Relays in use: their names are resolved."""
        self._asked_map: DerpMap | None = None
        """Relays of the last NetMap, which the shell was asked to resolve."""
        self._mark = tai64n_mark
        self._last_stamp = tai64n_mark
        self._last_token = 0
        self._commands: deque[Command] = deque()
        self._now = now
        self._has_more = False

    # Commands

    def up(self, now: float, unix_now: float) -> None:
        """Starts to answer and to begin handshakes."""
        self._keep_mark(stamp_of(unix_now))
        self._device.up(now)

    def set_netmap(
        self,
        netmap: NetMap,
        accepted: PortSet = NO_PORTS,
        *,
        is_workspace: bool = False,
        now: float,
        unix_now: float,
    ) -> None:
        """Makes the peers those of a map. A restarted peer loses its sessions, and the user's side begins a handshake.

        Args:
            netmap: the server's.
            accepted: ports to which peers may connect, where this node is no workspace.
            is_workspace: whether the person at this machine made it a workspace, which obeys the map in that.
            now: seconds on the node's clock.
            unix_now: the wall clock, for handshakes that follow.
        """
        admit(self._filter, netmap, accepted, is_workspace=is_workspace, now=now)
        self.netmap = self._roster.set_netmap(netmap, now, unix_now)
        for peer in self._pins.peers() & self._roster.keys():
            self._conn.pin_path(peer, self._pins.of(peer), now)
        if netmap.derp_map != self._asked_map:
            self._asked_map = netmap.derp_map
            self._commands.append(commands.ResolveRelays(netmap.derp_map))

    def accept(self, accepted: PortSet, *, is_workspace: bool = False, now: float) -> None:
        """Changes what peers of the present map may begin; the arguments are those of ``set_netmap``."""
        if self.netmap is not None:
            admit(self._filter, self.netmap, accepted, is_workspace=is_workspace, now=now)

    def set_server_connected(self, is_connected: bool) -> None:
        """Sets whether the server can tell peers of a new home. While it cannot, a home that is alive is kept."""
        self._conn.set_can_tell(is_connected)

    def ping(self, peer: NodePublic, now: float) -> int:
        """Pings a peer by the path in use. Returns the token of the ``PingReply`` that an answer becomes."""
        self._last_token += 1
        self._conn.ping(peer, self._last_token, now)
        return self._last_token

    def pin(self, peer: NodePublic, path: Pin, now: float) -> None:
        """Keeps traffic to a peer on one kind of path until ``unpin``; of several pins the first counts."""
        self._pins.add(peer, path)
        self._conn.pin_path(peer, self._pins.of(peer), now)

    def unpin(self, peer: NodePublic, path: Pin, now: float) -> None:
        """Removes one ``pin`` of a peer."""
        self._pins.remove(peer, path)
        self._conn.pin_path(peer, self._pins.of(peer), now)

    def check(self, now: float) -> None:
        """Starts a full netcheck; it ends in a ``NetcheckDone``."""
        self._conn.check(now)

    def rebind(self, now: float) -> None:
        """Forgets all trust in paths and measures anew, as after a change of network."""
        self._conn.handle_rebound(now)

    def ask_secret(self, peer: NodePublic, now: float, unix_now: float) -> None:
        """Asks a peer's daemon for its tunnel secret, unless it was asked a moment ago."""
        self._roster.ask_secret(peer, now, unix_now)

    # What happened: packets

    def handle_tun(self, header: Buffer, packet: Buffer, now: float, unix_now: float) -> None:
        """Takes one TUN read: a packet or super-packet behind its virtio header. Buffers are borrowed."""
        self._plane.handle_tun(header, packet, now, unix_now)

    def handle_udp(
        self,
        source: UdpSource,
        datagrams: Sequence[Buffer],
        now: float,
        unix_now: float,
        *,
        is_congested: bool = False,
    ) -> None:
        """Takes one UDP read: datagrams of one sender, and whether they met congestion. Buffers are borrowed."""
        self._plane.handle_udp(source, datagrams, now, unix_now, is_congested=is_congested)

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float, unix_now: float
    ) -> None:
        """Takes a run of one sender's packets from a relay. Buffers are borrowed."""
        self._plane.handle_relayed(region, sender, packets, now, unix_now)

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        """Notes that the kernel refused to send to an address, with this errno."""
        self._conn.handle_send_error(addr, error, now)

    # What happened: the network, and the answers to commands

    def set_local_endpoints(
        self,
        v4_port: int | None,
        v6_port: int | None,
        addresses: Sequence[str],
        now: float,
        tunnels: Collection[str] = (),
    ) -> None:
        """Takes where this host is: its bound UDP ports and its addresses.

        Args:
            v4_port: the port of the IPv4 socket; None without one.
            v6_port: the port of the IPv6 socket; None without one.
            addresses: those of interfaces that peers may reach.
            now: seconds on the node's clock.
            tunnels: those of tunnels, which are never published.
        """
        self._conn.set_local_endpoints(v4_port, v6_port, addresses, now, tunnels)

    def handle_network_changed(self, now: float) -> None:
        """Forgets what was measured: this host's addresses or default routes are others."""
        self._conn.handle_rebound(now)
        self._commands.append(commands.Redial())

    def handle_relay_connected(self, region: int, now: float) -> None:
        """Notes that the link to a region's relay is up."""
        self._conn.handle_relay_connected(region, now)

    def handle_relay_broken(self, region: int, now: float) -> None:
        """Notes that the link to a region's relay is down."""
        self._conn.handle_relay_broken(region, now)

    def handle_peer_gone(self, region: int, peer: NodePublic, now: float) -> None:
        """Notes that a relay does not have a peer."""
        self._conn.handle_peer_gone(region, peer, now)

    def set_relays(self, derp_map: DerpMap, resolved: Mapping[str, Sequence[str]], now: float) -> None:
        """Takes the answer to a ``ResolveRelays``: a map with the addresses of its host names. Starts a netcheck."""
        self._derp_map = derp_map
        self._conn.set_derp_map(derp_map, resolved, now)

    def handle_sockets_opened(self, sockets: Iterable[SocketId], now: float) -> None:
        """Takes the answer to an ``OpenSockets``: those that could be bound."""
        self._conn.handle_sockets_opened(sockets, now)

    def handle_https_latency(self, region: int, seconds: float | None, now: float) -> None:
        """Takes the answer to a ``ProbeHttps``, in seconds; None where the relay could not be reached."""
        self._conn.handle_https_latency(region, seconds, now)

    # The clock

    def handle_timeout(self, now: float, unix_now: float) -> None:
        """Fires every timer that is due by ``now``."""
        self._plane.handle_timeout(now, unix_now)
        self._roster.handle_timeout(now, unix_now)

    # What to do next

    def drain(self, now: float, unix_now: float) -> None:
        """Moves what is ready across the walls, and ends the children's events. Call it after anything above."""
        self._now = now
        for _ in range(EVENTS_PER_TURN):
            self._plane.drain(now, unix_now)
            if (event := self._plane.poll_event()) is not None:
                self._handle_plane_event(event, now, unix_now)
            elif (news := self._conn.poll_event()) is not None:
                self._handle_conn_event(news, now, unix_now)
            else:
                self._has_more = False
                break
        else:
            self._has_more = True
        if (stamp := self._device.tai64n_mark) is not self._last_stamp and stamp is not None:
            self._last_stamp = stamp
            self._keep_mark(stamp)

    def poll_transmit(self) -> PathTransmit | None:
        """Returns the next batch for a socket or a relay."""
        return self._plane.poll_transmit()

    def poll_tun(self) -> list[Buffer] | None:
        """Returns the next TUN write: an iovec of virtio header, headers, payloads."""
        return self._plane.poll_tun()

    def poll_command(self) -> Command | None:
        """Returns the next thing that the shell or its owner must do."""
        return self._commands.popleft() if self._commands else None

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``, and why; at once where ``drain`` has left something."""
        if self._has_more or self._commands:
            return Deadline(self._now, "more")
        return earliest(self._plane.poll_timeout(), self._roster.poll_timeout())

    # Looking

    def path(self, peer: NodePublic) -> PathInfo:
        """Returns how a peer is reached now, and the bytes moved each way by kind of path."""
        return self._conn.path(peer)

    def paths(self, now: float) -> Iterator[PeerPath]:
        """Yields how each peer is reached now, and whether it is used."""
        for key, path, is_used in self._conn.paths(now):
            if (peer := self._roster.get(key)) is not None:
                yield PeerPath(peer.node_id, path, is_used)

    def wireguard(self, peer: NodePublic, now: float) -> PeerStatus | None:
        """Returns WireGuard's view of a peer; None for a key that is no peer's."""
        return self._device.status(now).peer(peer)

    def has_mtu_black_hole(self, peer: NodePublic, now: float) -> bool:
        """Returns whether a peer answers small datagrams directly, and none of the tunnel's size."""
        return self._conn.has_mtu_black_hole(peer, now)

    def port_order(self, now: float) -> PortOrder:
        """Returns how this node's NAT chooses ports, as far as that was found out."""
        return self._conn.port_order(now)

    @property
    def home_region(self) -> int:
        """Returns the relay region at which this node listens; 0 while unknown."""
        return self._reach.home_region

    @property
    def is_relay_connected(self) -> bool:
        """Returns whether the link to the home relay is up."""
        return self._conn.is_relay_connected(self.home_region)

    @property
    def report(self) -> Report | None:
        """Returns what the last finished netcheck found; None before the first."""
        return self._reach.report

    @property
    def endpoints(self) -> tuple[AddrPort, ...]:
        """Returns the addresses at which this node may be reached directly."""
        return self._reach.endpoints

    @property
    def tai64n_mark(self) -> bytes | None:
        """Returns the timestamp of the last handshake that was begun; None before the first."""
        return self._device.tai64n_mark

    # The children's events end here

    def _handle_plane_event(self, event: PlaneEvent, now: float, unix_now: float) -> None:
        peer = self._roster.get(event.peer)
        name = peer.name if peer is not None else event.peer.short
        self._commands.append(commands.TunnelEvent(type(event).__name__, name))
        if self._roster.handle_event(event, now, unix_now) is not None and self._roster.netmap is not None:
            self.netmap = self._roster.netmap
            self._commands.append(commands.NetMapChanged(self.netmap))
        if isinstance(event, SecretTold):
            self._commands.append(commands.SecretReceived())

    def _handle_conn_event(self, event: ConnEvent, now: float, unix_now: float) -> None:
        match event:
            case magicsock.EndpointsChanged() | magicsock.HomeChanged() | magicsock.NetcheckDone():
                self._commands.extend(self._reach.handle(event))
            case magicsock.DiscoUnreadable():
                self._roster.handle_unreadable(event.peer, now, unix_now)
            case magicsock.RelayFound():
                self._roster.handle_path_found(event.peer, now)
            case magicsock.PathLost():
                self._roster.handle_path_lost(event.peer, now, unix_now)
            case magicsock.PathChanged():
                if event.path.kind is PathKind.DIRECT:
                    self._roster.handle_path_found(event.peer, now)
                self._commands.append(event)
            case magicsock.PingReply():
                self._commands.append(event)
            case magicsock.Slept():
                self._commands.append(commands.Redial(event.seconds))
            case magicsock.SocketsWanted():
                self._commands.append(commands.OpenSockets(event.sockets))
            case magicsock.SocketsUnwanted():
                self._commands.append(commands.CloseSockets(event.sockets))
            case magicsock.HttpsProbeWanted():
                self._probe_https(event.region, now)

    def _probe_https(self, region_id: int, now: float) -> None:
        if (region := self._derp_map.regions.get(region_id)) is not None:
            self._commands.append(commands.ProbeHttps(region))
        else:
            self._conn.handle_https_latency(region_id, None, now)

    def _keep_mark(self, last: bytes) -> None:
        if (mark := next_mark(self._mark, last)) is not None:
            self._mark = mark
            self._commands.append(commands.SaveMark(mark))
