"""The clock, the wires, the server with its relay and STUN, and what may happen to them.

::

    node a --- NAT a ---+                +--- NAT b --- node b     one way takes half a round trip between any two
                        +--- internet ---+
    node a ~~~ TCP ~~~~~ server, relay, STUN ~~~ TCP ~~~ node b

Time jumps from event to event, so that a virtual day takes as long as its events do, and one seed decides everything.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from coderd.coordination.message import (
    Goodbye,
    Message,
    Ready,
    Reconnect,
    Refusal,
    SelfEntry,
    ServerMessage,
    Update,
    Welcome,
)
from coderd.coordination.registry import Registry
from coderd.coordination.viewer import NodeFacts, Viewer
from coderd.engine.dataplane import PathTransmit
from coderd.identity.people import Node as Identity
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json
from coderd.model.keys import NodePrivate
from coderd.model.transport import DerpTransmit
from tests.sim.nat import Kind, Nat
from tests.sim.net import Network, Wire
from tests.sim.world.node import Node, Process
from tests.sim.world.stream import Place, Stream

REGION = 999
SERVER_IP = "192.0.2.10"
STUN_PORTS = (3478, 3479)
UNIX_START = 1_700_000_000.0


@dataclass
class Region(Place):
    """A relay of its own, with a STUN server beside it, whose delay is ``stun.delay`` each way."""

    stun: Wire = field(default_factory=Wire)


class World(Network):
    """A server with its relay and STUN, and the machines that are added.

    Args:
        rtt: seconds from any public place to any other and back.
        seed: decides keys, ports, losses, jitter.
        loss: share of UDP datagrams that vanish.

    Attributes:
        server: the coordination server.
        relays: by region; that of ``REGION`` is in the server's process.
        stun: between a public place and the server's STUN ports, each way.
    """

    SILENCE = 10.0
    """Seconds of silence after which the server's end of a stream gives up."""

    def __init__(self, *, rtt: float = 0.05, seed: int = 1, loss: float = 0.0) -> None:
        super().__init__(seed, wire=Wire(delay=rtt / 2, loss=loss))
        self.rtt = rtt
        self.stun = Wire(delay=rtt / 2, loss=loss)
        self.stun_servers |= {(SERVER_IP, port): self.stun for port in STUN_PORTS}
        self.server = Place(rtt)
        self.relays = {REGION: self.server}
        self.nodes: list[Node] = []
        self._derp_map = derp_map()
        self._registry = Registry()
        self._connections: dict[Stream, Viewer] = {}

    def hosts(self) -> list[Node]:
        """Returns every machine, in the order of their making."""
        return self.nodes

    # Building

    def add_node(
        self, identity: Identity, place: Kind | None, rng: Random, *, key: NodePrivate, token: str = ""
    ) -> Node:
        """Adds a machine that is off.

        Args:
            identity: what the server knows it as.
            place: the NAT before it; None: a public address.
            rng: its own.
            key: its node key.
            token: what it shows to a server that asks for one.
        """
        number = len(self.nodes)
        outside = ("198.51.100.2", "203.0.113.2")[number] if number < 2 else f"203.0.113.{10 + number}"
        nat = Nat(outside, *place, rng=rng) if place is not None else None
        ip = outside if nat is None else f"10.0.{number + 1}.2"
        self.nodes.append(Node(self, identity, key, ip, nat, rng, token))
        return self.nodes[-1]

    def add_region(self, region: int, rtt: float) -> Region:
        """Adds a relay with STUN, which answers after ``rtt`` seconds. Nodes learn of it when they join."""
        ip = f"192.0.2.{100 + region}"
        added = Region(rtt, stun=Wire(delay=rtt / 2))
        self.relays[region] = added
        self.stun_servers[ip, STUN_PORTS[0]] = added.stun
        node = DerpNode(f"{region}a", region, ip, ipv4=ip, ipv6="none", stun_port=STUN_PORTS[0])
        described = DerpRegion(region, f"r{region}", f"Region {region}", (node,))
        self._derp_map = DerpMap({**self._derp_map.regions, region: described})
        return added

    # Commands

    def stop_server(self) -> None:
        """Kills the server's process: its streams are reset, and what it knew is gone but for its database."""
        self.stun.is_cut = True
        self._registry = Registry()
        self._connections.clear()
        self.stop(self.server)

    def start_server(self) -> None:
        """Starts the server again, with nothing but its database."""
        self.server.is_up = True
        self.stun.is_cut = False

    def stop(self, place: Place) -> None:
        """Kills a relay's process, and not its STUN: every stream to it is reset."""
        place.is_up = False
        for node in self.nodes:
            for stream in node.process.streams() if node.process is not None else []:
                if stream.place is place:
                    stream.peer_sees_it = False
                    self.after(self.rtt / 2, stream.handle_reset)

    def until(self, condition: Callable[[], bool], patience: float = 10.0) -> float:
        """Runs until a condition holds, which it must within ``patience`` seconds. Returns the seconds that took."""
        took = self.run_until(condition, patience)
        assert condition(), f"not within {patience} seconds"
        return took

    @property
    def unix(self) -> float:
        """The true wall clock."""
        return UNIX_START + self.now

    # Wires

    def carry(self, sender: Node, transmit: PathTransmit) -> None:
        """Takes what a node sends."""
        if sender.is_unplugged:
            return
        if isinstance(transmit, DerpTransmit):
            self._carry_relayed(sender, transmit)
            return
        inside = sender.addr_of(transmit.socket)
        if inside is None:
            sender.running.core.handle_send_error(transmit.addr, errno.EBADF, self.now)
            return
        self.transmit(sender, inside, transmit.addr, [bytes(datagram) for datagram in transmit.datagrams])

    def _carry_relayed(self, sender: Node, transmit: DerpTransmit) -> None:
        receiver = next((node for node in self.nodes if node.public == transmit.to), None)
        link = sender.running.relay(transmit.region)
        half = link.place.rtt / 2

        def pass_on() -> None:
            there = self._link_of(receiver, transmit.region)
            if link.place.is_up and there is not None and there.peer_sees_it:
                self.after(half, deliver)

        def deliver() -> None:
            there = self._link_of(receiver, transmit.region)
            if receiver is not None and receiver.is_reachable and there is not None and there.is_up:
                receiver.running.handle_relayed(transmit.region, sender.public, list(transmit.datagrams))

        if not link.is_wanted:
            link.dial()
        link.send(lambda: self.after(half, pass_on))

    @staticmethod
    def _link_of(node: Node | None, region: int) -> Stream | None:
        return node.process.relays.get(region) if node is not None and node.process is not None else None

    def probe_https(self, process: Process, region: int) -> None:
        """Measures a relay for a node without UDP."""
        place = process.relay(region).place

        def answer() -> None:
            if process.node.process is process:
                process.handle_https_latency(region, place.rtt if place.is_up else None)

        self.after(2 * place.rtt, answer)

    # The server

    def admit(self, node: Node) -> tuple[Identity, list[Identity]] | Refusal:
        """Lets a node in that has proven its key. Returns its identity and those that it may meet."""
        return node.identity, [other.identity for other in self.nodes if other is not node]

    def lets_in(self, stream: Stream) -> bool:
        """Returns whether the other end serves who dials; coordination says so itself, in ``admit``."""
        return True

    def handle_stream_up(self, stream: Stream) -> None:
        """Opens the other end of a stream."""
        stream.peer_sees_it = True

    def handle_stream_gone(self, stream: Stream) -> None:
        """Closes the other end of a stream: of a coordination connection, the node is lost."""
        stream.peer_sees_it = False
        connection = self._connections.pop(stream, None)
        if connection is not None:
            self._registry.lost(connection)

    def introduce(self, process: Process) -> None:
        """Welcomes a node, or refuses it. That is part of the stream's three round trips."""
        admitted = self.admit(process.node)
        if isinstance(admitted, Refusal):
            process.node.refuse(admitted)
            return
        identity, partners = admitted
        facts = NodeFacts(
            process.node.public, process.core.disco_key, process.core.generation, process.node.capabilities
        )
        stream = process.coordination
        wake = partial(self.after, 0.0, partial(self._pump, process))
        connection = self._registry.connect(identity, facts, partners=partners, resumed=True, wake=wake)
        self._connections[stream] = connection
        me = SelfEntry(identity.node_id, identity.kind.value, identity.full_name, str(identity.address))
        welcome = Welcome(me, derp_map_to_json(self._derp_map), "resume")
        self.note_said(process.node, welcome)
        process.handle_message(welcome)

    def _pump(self, process: Process) -> None:
        """Says what a node is owed, and ends its connection where the registry has."""
        stream = process.coordination
        connection = self._connections.get(stream)
        if connection is None:
            return
        while (message := self._registry.poll(connection, self.now)) is not None:
            self._tell(process, message)
        if connection.end is not None:
            self._tell(process, connection.end)
            self.handle_stream_gone(stream)
        elif (deadline := self._registry.poll_timeout(connection)) is not None:
            self.after(max(0.0, deadline.when - self.now), partial(self._pump, process))

    def tell_server(self, process: Process, message: Message) -> None:
        """Takes what a node says to the server."""
        if process.coordination.is_up:
            self.after(self.rtt / 2, partial(self._hear, process.coordination, message))

    def _hear(self, stream: Stream, message: Message) -> None:
        connection = self._connections.get(stream)
        if connection is None:
            return
        match message:
            case Update():
                assert self._registry.update(connection, message, self.now) is None
            case Ready():
                self._registry.ready(connection, message.ids)
            case Goodbye():
                self._registry.goodbye(connection)

    def note_said(self, node: Node, message: ServerMessage) -> None:
        """Keeps what the server says to a node, for who looks at it later."""

    def _tell(self, process: Process, message: ServerMessage) -> None:
        self.note_said(process.node, message)
        self.after(self.rtt / 2, partial(self._arrive, process, message))

    def _arrive(self, process: Process, message: ServerMessage) -> None:
        node = process.node
        if node.process is not process or not process.coordination.is_up or not node.is_reachable:
            return
        if isinstance(message, Refusal):
            node.refuse(message)
        elif isinstance(message, Reconnect):
            self.after(message.after_ms / 1000, process.coordination.redial_now)
        else:
            process.handle_message(message)


def derp_map() -> DerpMap:
    """One relay, with STUN on two ports of its address."""
    nodes = tuple(
        DerpNode(name, REGION, SERVER_IP, ipv4=SERVER_IP, ipv6="none", stun_port=port, stun_only=port != 3478)
        for name, port in zip(("999b", "999c"), STUN_PORTS, strict=True)
    )
    return DerpMap({REGION: DerpRegion(REGION, "coder", "Coder", nodes)})
