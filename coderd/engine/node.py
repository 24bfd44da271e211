"""A node as one pure state machine, from its NetMap to its datagrams; the shell adds sockets and clocks.

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

**State.** A node owns its children: the WireGuard device, the paths (``Conn``), the data plane between them,
the packet filter, the roster with its tunnel secrets, the pins; and the NetMap in force, which is the
server's, updated by what restarted peers have announced since. Nothing outside changes these; what the
properties and queries return is immutable.

**Input:** commands (``set_netmap``, ``ping``, ``pin`` …) and events (``handle_*``), in any order. Each takes
``now``, seconds on one monotonic clock, and ``unix_now``, seconds of the wall clock, where a handshake may
follow.

**Output,** after ``drain``: data by ``poll_transmit`` and ``poll_tun``, then commands to the shell by
``poll_command``, each polled until None. The result of a command (an opened socket, a measured latency) is
input again, and needs another ``drain``.

**Draining** is a loop: packets move between the children, then one child's event is handled (it changes
another child or becomes a command), until there are no more. One ``drain`` handles at most
``EVENTS_PER_TURN`` events; if more are left, ``poll_timeout`` is due at once, so that the shell reads its
sockets in between.

**Time** is one deadline (``poll_timeout``), the earliest of all children's, with its reason;
``handle_timeout`` fires every timer that is due.
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
"""Capabilities that a node of this program announces to the server."""

EVENTS_PER_TURN: Final = 512
"""Most events handled in one ``drain``: each takes about 10 us, so a turn lasts a few milliseconds."""


class Node:
    """State machine of one node: WireGuard, paths, packet filter and NetMap of one identity.

    Args:
        key: the identity's private key.
        packet_filter: decides on the flows that peers open; new, and owned by this node from here on.
        rng: source of random bytes for keys, secrets, nonces and jitter.
        now: seconds on the monotonic clock of every later ``now``.
        mtu: of the tunnel, in bytes.
        counters: counts drops by reason, and packets carried.
        uso: whether the kernel takes UDP super-packets on TUN writes.
        tai64n_mark: upper bound of handshake timestamps of earlier starts (WireGuard paper, 5.1); None: none.
        plays_birthday: whether to search random ports of NATs, with hundreds of sockets and pings.

    Attributes:
        disco_key: public disco key, new at each start.
        generation: random number of this start, by which peers recognise a restart.
        netmap: the NetMap in force; None before the first.
        secrets: tunnel secrets, which authenticate connections to ports 3 and 4 as a peer daemon's.
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
        """Relay map in use: the last one with host names resolved by the shell."""
        self._asked_map: DerpMap | None = None
        """Relay map of the last NetMap, given to the shell to resolve."""
        self._mark = tai64n_mark
        self._last_stamp = tai64n_mark
        self._last_token = 0
        self._commands: deque[Command] = deque()
        self._now = now
        self._has_more = False

    # Commands

    def up(self, now: float, unix_now: float) -> None:
        """Enables the node: it answers and initiates handshakes from now on."""
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
        """Replaces the NetMap; drops sessions of restarted peers, with whom a device starts a handshake.

        Args:
            netmap: the NetMap that the server sent.
            accepted: ports that peers may reach on a device; a workspace takes them from the map.
            is_workspace: whether this machine was set up as a workspace, and so enforces the map's ports.
            now: seconds on the node's clock.
            unix_now: seconds of the wall clock, for timestamps of handshakes.
        """
        admit(self._filter, netmap, accepted, is_workspace=is_workspace, now=now)
        self.netmap = self._roster.set_netmap(netmap, now, unix_now)
        for peer in self._pins.peers() & self._roster.keys():
            self._conn.pin_path(peer, self._pins.of(peer), now)
        if netmap.derp_map != self._asked_map:
            self._asked_map = netmap.derp_map
            self._commands.append(commands.ResolveRelays(netmap.derp_map))

    def accept(self, accepted: PortSet, *, is_workspace: bool = False, now: float) -> None:
        """Changes the ports that peers may reach, without a new NetMap; arguments as for ``set_netmap``."""
        if self.netmap is not None:
            admit(self._filter, self.netmap, accepted, is_workspace=is_workspace, now=now)

    def set_server_connected(self, is_connected: bool) -> None:
        """Sets whether the server is connected. While it is not, a home relay that works is kept."""
        self._conn.set_can_tell(is_connected)

    def ping(self, peer: NodePublic, now: float) -> int:
        """Pings a peer by the path in use; returns the token that the ``PingReply`` command will carry."""
        self._last_token += 1
        self._conn.ping(peer, self._last_token, now)
        return self._last_token

    def pin(self, peer: NodePublic, path: Pin, now: float) -> None:
        """Restricts traffic to a peer to one kind of path until ``unpin``.

        Of several pins the oldest applies.
        """
        self._pins.add(peer, path)
        self._conn.pin_path(peer, self._pins.of(peer), now)

    def unpin(self, peer: NodePublic, path: Pin, now: float) -> None:
        """Removes one of a peer's pins."""
        self._pins.remove(peer, path)
        self._conn.pin_path(peer, self._pins.of(peer), now)

    def check(self, now: float) -> None:
        """Starts a full netcheck; its result is a ``NetcheckDone`` command."""
        self._conn.check(now)

    def rebind(self, now: float) -> None:
        """Discards what is known of all paths and probes them again, as after a change of network."""
        self._conn.handle_rebound(now)

    def ask_secret(self, peer: NodePublic, now: float, unix_now: float) -> None:
        """Requests a peer's tunnel secret, unless it was requested a moment ago."""
        self._roster.ask_secret(peer, now, unix_now)

    # What happened: packets

    def handle_tun(self, header: Buffer, packet: Buffer, now: float, unix_now: float) -> None:
        """Takes one TUN read, a virtio header and a packet or super-packet. Buffers may be reused after."""
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
        """Takes one UDP read, datagrams of one sender and their ECN mark. The buffers may be reused after."""
        self._plane.handle_udp(source, datagrams, now, unix_now, is_congested=is_congested)

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float, unix_now: float
    ) -> None:
        """Takes consecutive packets of one sender from a relay; the buffers may be reused after."""
        self._plane.handle_relayed(region, sender, packets, now, unix_now)

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        """Reports that the kernel refused to send to an address; ``error`` is the errno."""
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
        """Sets the UDP ports and the addresses of this host, from which its endpoints are made.

        Args:
            v4_port: port of the IPv4 socket; None without one.
            v6_port: port of the IPv6 socket; None without one.
            addresses: addresses of interfaces that peers may reach.
            now: seconds on the node's clock.
            tunnels: addresses of tunnel interfaces, which are not published.
        """
        self._conn.set_local_endpoints(v4_port, v6_port, addresses, now, tunnels)

    def handle_network_changed(self, now: float) -> None:
        """Discards all measurements and emits ``Redial``.

        This host's addresses or default routes have changed.
        """
        self._conn.handle_rebound(now)
        self._commands.append(commands.Redial())

    def handle_relay_connected(self, region: int, now: float) -> None:
        """Reports that the link to a region's relay is up."""
        self._conn.handle_relay_connected(region, now)

    def handle_relay_broken(self, region: int, now: float) -> None:
        """Reports that the link to a region's relay is down."""
        self._conn.handle_relay_broken(region, now)

    def handle_peer_gone(self, region: int, peer: NodePublic, now: float) -> None:
        """Reports that a peer is not connected to a region's relay."""
        self._conn.handle_peer_gone(region, peer, now)

    def set_relays(self, derp_map: DerpMap, resolved: Mapping[str, Sequence[str]], now: float) -> None:
        """Sets the relay map and its resolved host names, the result of ``ResolveRelays``.

        Starts a netcheck.
        """
        self._derp_map = derp_map
        self._conn.set_derp_map(derp_map, resolved, now)

    def handle_sockets_opened(self, sockets: Iterable[SocketId], now: float) -> None:
        """Reports the sockets that could be bound, the result of ``OpenSockets``."""
        self._conn.handle_sockets_opened(sockets, now)

    def handle_https_latency(self, region: int, seconds: float | None, now: float) -> None:
        """Reports a relay's round trip in seconds, the result of ``ProbeHttps``; None: unreachable."""
        self._conn.handle_https_latency(region, seconds, now)

    # The clock

    def handle_timeout(self, now: float, unix_now: float) -> None:
        """Fires every timer that is due by ``now``."""
        self._plane.handle_timeout(now, unix_now)
        self._roster.handle_timeout(now, unix_now)

    # What to do next

    def drain(self, now: float, unix_now: float) -> None:
        """Moves packets between the children and handles their events; call it after every input."""
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
        """Returns the next batch of datagrams for a socket or a relay; None if there is none."""
        return self._plane.poll_transmit()

    def poll_tun(self) -> list[Buffer] | None:
        """Returns the next TUN write, an iovec of virtio header, headers and payloads; None: no more."""
        return self._plane.poll_tun()

    def poll_command(self) -> Command | None:
        """Returns the next command to the shell or its owner; None if there is none."""
        return self._commands.popleft() if self._commands else None

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``, and why: at once where ``drain`` has left events."""
        if self._has_more or self._commands:
            return Deadline(self._now, "more")
        return earliest(self._plane.poll_timeout(), self._roster.poll_timeout())

    # Looking

    def path(self, peer: NodePublic) -> PathInfo:
        """Returns the path in use to a peer, and the bytes sent and received by kind of path."""
        return self._conn.path(peer)

    def paths(self, now: float) -> Iterator[PeerPath]:
        """Yields each peer's path, and whether it carries traffic now."""
        for key, path, is_used in self._conn.paths(now):
            if (peer := self._roster.get(key)) is not None:
                yield PeerPath(peer.node_id, path, is_used)

    def wireguard(self, peer: NodePublic, now: float) -> PeerStatus | None:
        """Returns the WireGuard status of a peer; None for an unknown key."""
        return self._device.status(now).peer(peer)

    def has_mtu_black_hole(self, peer: NodePublic, now: float) -> bool:
        """Returns whether a peer's direct path passes small datagrams, but none of the tunnel's MTU."""
        return self._conn.has_mtu_black_hole(peer, now)

    def port_order(self, now: float) -> PortOrder:
        """Returns how this node's NAT chooses ports, as far as measurements have shown it."""
        return self._conn.port_order(now)

    @property
    def home_region(self) -> int:
        """Returns the home relay region, where this node receives relayed packets; 0 while unknown."""
        return self._reach.home_region

    @property
    def is_relay_connected(self) -> bool:
        """Returns whether the link to the home relay is up."""
        return self._conn.is_relay_connected(self.home_region)

    @property
    def report(self) -> Report | None:
        """Returns the report of the last finished netcheck; None before the first."""
        return self._reach.report

    @property
    def endpoints(self) -> tuple[AddrPort, ...]:
        """Returns the candidate addresses for direct paths to this node."""
        return self._reach.endpoints

    @property
    def tai64n_mark(self) -> bytes | None:
        """Returns the timestamp of the last handshake that was initiated; None before the first."""
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
