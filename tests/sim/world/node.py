"""One machine of the world: where it is, what its state file holds, and its process while it runs.

The process is the production ``engine.Node``, from NetMap to datagram: what ``Tunnel`` and ``Session`` do for it with
sockets, streams and tasks, the world does with its queue of events.
"""

import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

from coderd.config.url import parse_server_url
from coderd.coordination.entries import update_message
from coderd.coordination.message import Message, Peers, Ready, ServerMessage
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
from coderd.model.backoff import Backoff
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.netmap import NetMap, NodeKind
from coderd.model.paths import PathKind
from coderd.model.ports import NO_PORTS, PortSet
from coderd.model.reachability import NodeUpdate
from coderd.model.transport import MAIN_SOCKET, SocketId, UdpSource
from coderd.packetfilter import PacketFilter
from tests.sim.nat import Nat

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
        process.coordination.cut()
        process.relay.cut()

    def move(self, ip: str, nat: Nat | None) -> None:
        """Another address, perhaps on another network; the kernel says so at once."""
        self.ip, self.nat = ip, nat
        self.running.handle_network_change()

    def sleep(self) -> None:
        """The machine is suspended."""
        self.is_asleep = True
        self.running.coordination.fall_silent()
        self.running.relay.fall_silent()

    def wake(self) -> None:
        """It resumes: every deadline that has passed is due at once."""
        self.is_asleep = False
        self.running.coordination.redial_now()
        self.running.relay.redial_now()
        self.running.handle_timeout()

    def send(self, to: "Node", number: int) -> None:
        """A small packet into its TUN."""
        if self.process is not None and not self.is_asleep:
            self.process.handle_tun(inner_packet(self, to, number))

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
        self.coordination = Stream(self, self._handle_joined, lambda: None)
        self.relay = Stream(self, self._handle_relay_up, self._handle_relay_broken)
        self.spare: dict[SocketId, int] = {}
        """Ports of the spare sockets."""
        self._said: NodeUpdate | None = None

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
        return self.core.poll_timeout()

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
        if (netmap := self.client.handle_message(message)) is not None:
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
                self.coordination.redial_now()
                self.relay.redial_now()
            case ListenAt():
                self.relay.dial()
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

    def _handle_relay_up(self) -> None:
        self.core.handle_relay_connected(self.core.home_region, self.world.now)
        self.drain()

    def _handle_relay_broken(self) -> None:
        self.core.handle_relay_broken(self.core.home_region, self.world.now)
        self.drain()

    def _save(self, netmap: NetMap | None) -> None:
        if netmap is not None:
            self.node.saved_netmap = encode_netmap(netmap)


class Stream:
    """A TCP connection to the server, dialled again whenever it breaks, as both links of a daemon are.

    From SYN to the last word of the join are three round trips: TCP, the Upgrade, and who we are.
    """

    def __init__(self, process: Process, on_up: Callable[[], None], on_down: Callable[[], None]) -> None:
        self._process = process
        self._world = process.world
        self._on_up, self._on_down = on_up, on_down
        self._backoff = Backoff(process.node.rng.randbytes, longest=5.0)
        self._attempt = 0
        self._is_wanted = False
        self._waiting: deque[Callable[[], None]] = deque(maxlen=256)
        self.is_up = False
        self.peer_sees_it = False
        """Whether the server's end is open."""

    def send(self, action: Callable[[], None]) -> None:
        """Does what sending something means: now, or once the connection that is being dialled is up."""
        if self.is_up:
            action()
        else:
            self._waiting.append(action)

    def dial(self) -> None:
        self._is_wanted = True
        if not self.is_up:
            self.redial_now()

    def redial_now(self) -> None:
        """What there was is worth nothing: another connection, at once."""
        if self._is_wanted:
            self.cut()
            self._is_wanted = True
            self._try(self._attempt)

    def cut(self) -> None:
        """Ends it, and what was being dialled."""
        self._attempt += 1
        self._is_wanted = False
        was_up, self.is_up = self.is_up, False
        if was_up:
            self._world.handle_stream_gone(self)
            if self._process.node.process is self._process:
                self._on_down()

    def fall_silent(self) -> None:
        """Our end no longer speaks: the server's gives it up after its patience."""
        self._world.after(self._world.SILENCE, lambda: self._world.handle_stream_gone(self))

    def handle_reset(self) -> None:
        """The server's end is gone."""
        if self.is_up and not self._process.node.is_asleep:
            self.is_up = False
            self._attempt += 1
            self._on_down()
            self._retry(self._attempt)

    def _try(self, attempt: int) -> None:
        world, node = self._world, self._process.node
        takes = 3 * world.rtt if world.is_server_up and not node.is_unplugged else world.rtt
        world.after(takes, lambda: self._handle_answer(attempt))

    def _handle_answer(self, attempt: int) -> None:
        node = self._process.node
        if attempt != self._attempt or node.process is not self._process or node.is_asleep:
            return
        if not self._world.is_server_up or node.is_unplugged:
            self._retry(attempt)
            return
        self.is_up = True
        self._backoff.reset()
        self._world.handle_stream_up(self)
        self._on_up()
        while self._waiting:
            self._waiting.popleft()()

    def _retry(self, attempt: int) -> None:
        def again() -> None:
            if attempt == self._attempt and self._process.node.process is self._process:
                self._try(attempt)

        self._world.after(self._backoff.next_delay(), again)


def inner_packet(sender: Node, receiver: Node, number: int) -> bytes:
    """IPv6 and UDP around a number."""
    addresses = sender.identity.address.packed, receiver.identity.address.packed
    return _INNER.pack(6 << 28, 16, 17, 64, *addresses, 4000, 4000, 16, 0, number)


def node_id(rng: Random) -> UUID:
    """As the server makes them."""
    return UUID(bytes=rng.randbytes(16), version=4)
