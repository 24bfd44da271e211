"""One machine of the world: where it is, what its state file holds, and its process while it runs.

The process is the production ``engine.Node``, from NetMap to datagram: what ``Tunnel`` and ``Session`` do for it with
sockets, streams and tasks, the world does with its queue of events.
"""

import struct
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

from coderd.config.url import parse_server_url
from coderd.coordination.entries import update_message
from coderd.coordination.message import Message, Peers, Ready, Refusal, ServerMessage
from coderd.coordination.netmap_client import NetMapClient
from coderd.coordination.saved_netmap import decode_netmap, encode_netmap
from coderd.engine import node as engine
from coderd.engine.commands import (
    CloseSockets,
    Command,
    ListenAt,
    NetMapChanged,
    OpenSockets,
    ProbeHttps,
    Redial,
    ResolveRelays,
    SaveMark,
    TellServer,
)
from coderd.identity.people import Node as Identity
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.netmap import Capability, NetMap, NodeKind, Peer
from coderd.model.paths import PathKind
from coderd.model.ports import NO_PORTS, PortSet
from coderd.model.reachability import NodeUpdate
from coderd.model.transport import MAIN_SOCKET, SocketId, UdpSource
from coderd.packetfilter import PacketFilter
from tests.sim.nat import Nat
from tests.sim.world.stream import Place, Stream

if TYPE_CHECKING:
    from tests.sim.world.world import World

URL = "http://192.0.2.10:3000"
PORT = 41641
MTU = 1280
PLAIN = bytes(10)
"""A virtio header that asks for nothing."""
_INNER = struct.Struct(">IHBB16s16sHHHHQ")
"""IPv6, UDP, and a number as all of its payload."""


@dataclass
class Node:
    """A machine."""

    world: "World"
    identity: Identity
    key: NodePrivate
    ip: str
    nat: Nat | None
    rng: Random
    token: str = ""
    """What it shows to a server with identities of its own; see ``Office``."""
    capabilities: tuple[str, ...] = (Capability.TUNNEL_SECRET,)
    """What its hello says that it can do."""
    refusal: Refusal | None = None
    """Why the server has ended its session for good."""
    wall_clock_error: float = 0.0
    """Seconds that its idea of the date is off."""
    accepts: PortSet = NO_PORTS
    """Of a device: what its user said with ``up --accept-inbound``."""
    is_asleep: bool = False
    is_unplugged: bool = False
    process: "Process | None" = None
    saved_netmap: bytes = b""
    saved_mark: bytes | None = None
    arrived: list[tuple[float, int]] = field(default_factory=list)
    """Numbers that came out of its TUN, and when."""
    written: list[bytes] = field(default_factory=list)
    """Every packet that came out of its TUN."""
    stamps: list[bytes] = field(default_factory=list)
    """Every timestamp that its handshakes were marked with."""

    @property
    def public(self) -> NodePublic:
        return self.key.public()

    @property
    def addr(self) -> AddrPort:
        return (self.ip, PORT)

    @property
    def is_reachable(self) -> bool:
        """Whether anything that arrives is read."""
        return self.process is not None and not self.is_asleep and not self.is_unplugged

    def socket_at(self, inside: AddrPort) -> SocketId | None:
        """Returns which of its sockets is bound to an address; None: none."""
        if inside == self.addr:
            return MAIN_SOCKET
        if inside[0] != self.ip:
            return None
        return next((number for number, port in self.running.spare.items() if port == inside[1]), None)

    def addr_of(self, socket: SocketId) -> AddrPort | None:
        """Returns the address to which one of its sockets is bound; None: it is closed."""
        port = PORT if socket == MAIN_SOCKET else self.running.spare.get(socket)
        return (self.ip, port) if port is not None else None

    def handle_datagram(self, source: UdpSource, datagram: bytes, *, is_congested: bool) -> None:
        """Takes a datagram that has arrived."""
        self.running.handle_udp(source, datagram, is_congested=is_congested)

    def poll_timeout(self) -> Deadline | None:
        """Returns when its process is to be woken; None: never, or the machine is suspended."""
        return self.process.poll_timeout() if self.process is not None and not self.is_asleep else None

    def handle_timeout(self) -> None:
        """Fires its process's timers."""
        self.running.handle_timeout()

    @property
    def running(self) -> "Process":
        assert self.process is not None
        return self.process

    def start(self) -> None:
        """Its daemon starts, with what the state file holds."""
        self.process = Process(self)
        self.process.begin()

    def kill(self) -> None:
        """SIGKILL: nothing is said to anybody, its streams are reset."""
        process, self.process = self.running, None
        for stream in process.streams():
            stream.cut()

    def refuse(self, refusal: Refusal) -> None:
        """Ends its session, as ``Session`` does where the server refuses the node for good."""
        self.refusal = refusal
        self.kill()

    def move(self, ip: str, nat: Nat | None) -> None:
        """Another address, perhaps on another network; the kernel says so at once."""
        self.ip, self.nat = ip, nat
        self.running.handle_network_change()

    def sleep(self) -> None:
        """The machine is suspended."""
        self.is_asleep = True
        for stream in self.running.streams():
            stream.fall_silent()

    def wake(self) -> None:
        """It resumes: every deadline that has passed is due at once."""
        self.is_asleep = False
        self.running.redial()
        self.running.handle_timeout()

    def send(self, to: "Node", number: int) -> None:
        """A small packet into its TUN."""
        if self.process is not None and not self.is_asleep:
            self.process.handle_tun(inner_packet(self, to, number))

    @property
    def is_connected(self) -> bool:
        """Whether its link to the server is up."""
        return self.process is not None and self.process.coordination.is_up

    @property
    def peers(self) -> dict[str, Peer]:
        """The peers of its NetMap, by their name."""
        netmap = self.process.core.netmap if self.process is not None else None
        return {peer.name: peer for peer in netmap.peers.values()} if netmap is not None else {}

    def sees(self, name: str) -> bool:
        """Returns whether a peer of the name is online."""
        return name in self.peers and self.peers[name].online

    def path_to(self, other: "Node") -> PathKind:
        """How it reaches another."""
        return self.process.core.path(other.public).kind if self.process is not None else PathKind.NONE


class Process:
    """One life of a daemon: the production ``Node``, and stand-ins for its sockets, streams and state file."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.world = node.world
        self.counters: Counter[str] = Counter()
        self.core = engine.Node(
            node.key,
            PacketFilter(counters=self.counters),
            rng=node.rng.randbytes,
            now=self.world.now,
            mtu=MTU,
            counters=self.counters,
            tai64n_mark=node.saved_mark,
        )
        last = decode_netmap(node.saved_netmap, URL) if node.saved_netmap else None
        self.client = NetMapClient(parse_server_url(URL), last)
        self.coordination = Stream(self, self.world.server, self._handle_joined, lambda: None)
        self.relays: dict[int, Stream] = {}
        """Links to relays by region, the home's and others that were sent to."""
        self.spare: dict[SocketId, int] = {}
        """Ports of the spare sockets."""
        self._deadline: Deadline | None = None
        self.failures: list[str] = []
        """Why connections to the server have been given up, in order."""
        self.homes: list[int] = []
        """Every home region that it has chosen, in order."""
        self._said: NodeUpdate | None = None

    # Its links

    def relay(self, region: int) -> Stream:
        """Returns the link to a region's relay, dialled or not."""
        if region not in self.relays:
            up, broken = partial(self._handle_relay_up, region), partial(self._handle_relay_broken, region)
            nowhere = Place(self.world.rtt, is_up=False)
            self.relays[region] = Stream(self, self.world.relays.get(region, nowhere), up, broken)
        return self.relays[region]

    def streams(self) -> list[Stream]:
        """Returns every link."""
        return [self.coordination, *self.relays.values()]

    def redial(self) -> None:
        """Dials every link anew that is wanted."""
        for stream in self.streams():
            stream.redial_now()

    @property
    def is_relayed(self) -> bool:
        """Whether the link to the home's relay is up."""
        home = self.relays.get(self.core.home_region)
        return home is not None and home.is_up

    # Its life

    def begin(self) -> None:
        self.core.up(self.world.now, self.unix)
        self.core.set_local_endpoints(PORT, None, [self.node.ip], self.world.now)
        if self.client.netmap is not None:
            self.take_netmap(self.client.netmap)
        self.coordination.dial()
        self.drain()

    @property
    def unix(self) -> float:
        return self.world.unix + self.node.wall_clock_error

    def handle_timeout(self) -> None:
        self.core.handle_timeout(self.world.now, self.unix)
        self.drain()

    def poll_timeout(self) -> Deadline | None:
        """Returns when the core is due, as it was after the last drain: nothing moves it without one."""
        return self._deadline

    def handle_tun(self, packet: bytes) -> None:
        self.core.handle_tun(PLAIN, packet, self.world.now, self.unix)
        self.drain()

    def handle_udp(self, source: UdpSource, datagram: bytes, *, is_congested: bool = False) -> None:
        self.core.handle_udp(source, [datagram], self.world.now, self.unix, is_congested=is_congested)
        self.drain()

    def handle_relayed(self, region: int, sender: NodePublic, datagrams: list[bytes]) -> None:
        self.core.handle_relayed(region, sender, datagrams, self.world.now, self.unix)
        self.drain()

    def handle_network_change(self) -> None:
        self.core.set_local_endpoints(PORT, None, [self.node.ip], self.world.now)
        self.core.handle_network_changed(self.world.now)
        self.drain()

    def handle_https_latency(self, region: int, seconds: float | None) -> None:
        self.core.handle_https_latency(region, seconds, self.world.now)
        self.drain()

    def handle_message(self, message: ServerMessage) -> None:
        """Takes what the server says; a lie ends the connection, and the server is dialled again."""
        try:
            netmap = self.client.handle_message(message)
        except MalformedPacket as error:
            self.failures.append(str(error))
            self.client.handle_disconnected()
            self.coordination.redial_now()
            return
        if netmap is not None:
            self.take_netmap(netmap)
            self.drain()
        if isinstance(message, Peers) and message.upsert:
            self.say(Ready([entry.id for entry in message.upsert]))

    def take_netmap(self, netmap: NetMap) -> None:
        is_workspace = self.node.identity.kind is NodeKind.WORKSPACE
        self.core.set_netmap(
            netmap, self.node.accepts, is_workspace=is_workspace, now=self.world.now, unix_now=self.unix
        )
        self._save(self.core.netmap)

    def say(self, message: Message) -> None:
        """To the server."""
        self.world.tell_server(self, message)

    # What the node wants

    def drain(self) -> None:
        is_busy = True
        while is_busy:
            self.core.drain(self.world.now, self.unix)
            while (transmit := self.core.poll_transmit()) is not None:
                self.world.carry(self.node, transmit)
            while (iovec := self.core.poll_tun()) is not None:
                self._take_tun(b"".join(map(bytes, iovec)))
            is_busy = False
            while (command := self.core.poll_command()) is not None:
                is_busy = True
                self._carry_out(command)
        self._deadline = self.core.poll_timeout()
        if (mark := self.core.tai64n_mark) is not None:
            self.node.stamps.append(mark)

    def _carry_out(self, command: Command) -> None:
        """Does what ``Tunnel`` and ``Session`` do for it."""
        match command:
            case TellServer():
                self._report(command.update)
            case SaveMark():
                self.node.saved_mark = command.mark
            case NetMapChanged():
                self._save(command.netmap)
            case Redial():
                self.redial()
            case ListenAt():
                self.homes.append(command.region)
                if command.region:
                    self.relay(command.region).dial()
            case ResolveRelays():
                self.core.set_relays(command.derp_map, {}, self.world.now)
            case ProbeHttps():
                self.world.probe_https(self, command.region.region_id)
            case OpenSockets():
                self.spare |= {number: 42000 + number % 20000 for number in command.sockets}
                self.core.handle_sockets_opened(command.sockets, self.world.now)
            case CloseSockets():
                for number in command.sockets:
                    self.spare.pop(number, None)
            case _:
                pass

    def _take_tun(self, written: bytes) -> None:
        packet = written[len(PLAIN) :]
        self.node.written.append(packet)
        if len(packet) == _INNER.size:
            self.node.arrived.append((self.world.now, _INNER.unpack(packet)[-1]))

    # The server and its relay

    def _handle_joined(self) -> None:
        self.world.introduce(self)
        if self._said is not None:
            self.say(update_message(self._said, self.core.generation))

    def _report(self, update: NodeUpdate) -> None:
        update = replace(update, latencies={})
        if update != self._said:
            self._said = update
            self.say(update_message(update, self.core.generation))

    def _handle_relay_up(self, region: int) -> None:
        self.core.handle_relay_connected(region, self.world.now)
        self.drain()

    def _handle_relay_broken(self, region: int) -> None:
        self.core.handle_relay_broken(region, self.world.now)
        self.drain()

    def _save(self, netmap: NetMap | None) -> None:
        if netmap is not None:
            self.node.saved_netmap = encode_netmap(netmap)


def inner_packet(sender: Node, receiver: Node, number: int) -> bytes:
    """IPv6 and UDP around a number."""
    addresses = sender.identity.address.packed, receiver.identity.address.packed
    return _INNER.pack(6 << 28, 16, 17, 64, *addresses, 4000, 4000, 16, 0, number)


def node_id(rng: Random) -> UUID:
    """As the server makes them."""
    return UUID(bytes=rng.randbytes(16), version=4)
