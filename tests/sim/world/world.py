"""The clock, the wires, the server with its relay and STUN, and what may happen to them.

::

    node a --- NAT a ---+                +--- NAT b --- node b     one way takes half a round trip between any two
                        +--- internet ---+
    node a ~~~ TCP ~~~~~ server, relay, STUN ~~~ TCP ~~~ node b

Time jumps from event to event, so that a virtual day takes as long as its events do, and one seed decides everything.
"""

import errno
import itertools
from random import Random

from coderd.coordination.message import Goodbye, Message, Ready, SelfEntry, Update, Welcome
from coderd.coordination.registry import Registry
from coderd.coordination.viewer import NodeFacts, Viewer
from coderd.engine.dataplane import PathTransmit
from coderd.identity.people import Node as Identity
from coderd.identity.people import User
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json
from coderd.model.keys import NodePrivate
from coderd.model.netmap import Capability, NodeKind
from coderd.model.paths import PathKind
from coderd.model.transport import DerpTransmit
from tests.sim.nat import Kind, Nat
from tests.sim.net import Network, Wire
from tests.sim.world.node import Node, Process, Stream, node_id

REGION = 999
SERVER_IP = "192.0.2.10"
STUN_PORTS = (3478, 3479)
UNIX_START = 1_700_000_000.0


class World(Network):
    """Two nodes, ``user`` and ``dev``, and all that is between them.

    Args:
        rtt: seconds from any public place to any other and back.
        user: the NAT before the user; None: a public address.
        dev: the same for the workspace.
        seed: decides keys, ports, losses, jitter.
        loss: share of UDP datagrams that vanish.
    """

    SILENCE = 10.0
    """Seconds of silence after which the server's end of a stream gives up."""

    def __init__(
        self, *, rtt: float = 0.05, user: Kind | None, dev: Kind | None, seed: int = 1, loss: float = 0.0
    ) -> None:
        wires = [Wire(delay=rtt / 2, loss=loss) for _ in range(2)]
        servers = tuple((SERVER_IP, port) for port in STUN_PORTS)
        super().__init__(seed, wire=wires[0], stun=wires[1], stun_servers=servers)
        self.rtt = rtt
        self.is_server_up = True
        self._stream: object = None
        self._registry = Registry()
        self._connections: dict[Stream, Viewer] = {}
        self._owner = User(node_id(self.rng), "team")
        self.user = self._add("laptop", NodeKind.DEVICE, "10.0.1.2", "198.51.100.2", user)
        self.dev = self._add("dev", NodeKind.WORKSPACE, "10.0.2.2", "203.0.113.2", dev)
        self.nodes = [self.user, self.dev]

    def _add(self, name: str, kind: NodeKind, inside: str, outside: str, nat: Kind | None) -> Node:
        rng = Random(self.rng.randbytes(8))
        identity = Identity(node_id(rng), kind, name, self._owner, 0.0)
        key = NodePrivate.generate(rng.randbytes)
        place = Nat(outside, *nat, rng=rng) if nat is not None else None
        return Node(self, identity, key, outside if nat is None else inside, place, rng)

    def hosts(self) -> list[Node]:
        """Returns every machine, in the order of their making."""
        return self.nodes

    # Commands

    def join(self) -> None:
        """Starts both daemons, and runs until each has its relay and the other's entry."""
        for node in self.nodes:
            node.start()
        self.run_until(self.is_joined, 10)
        assert self.is_joined()

    def is_joined(self) -> bool:
        """Whether both are connected to the relay and know of each other."""
        return all(
            node.running.relay.is_up and node.path_to(other) is not PathKind.NONE
            for node, other in ((self.user, self.dev), (self.dev, self.user))
        )

    def is_direct(self) -> bool:
        """Whether both use a direct path."""
        return {self.user.path_to(self.dev), self.dev.path_to(self.user)} == {PathKind.DIRECT}

    def stop_server(self) -> None:
        """The server's process dies: streams are reset, whoever was relayed is not."""
        self.is_server_up = False
        self.stun.is_cut = True
        self._registry = Registry()
        streams = [s for n in self.nodes if n.process for s in (n.process.coordination, n.process.relay)]
        self._connections.clear()
        for stream in streams:
            stream.peer_sees_it = False
            self.after(self.rtt / 2, stream.handle_reset)

    def start_server(self) -> None:
        """It is back, with nothing but its database."""
        self.is_server_up = True
        self.stun.is_cut = False

    def stream(self, interval: float = 0.005) -> None:
        """From now on both nodes send each other numbered packets, the user's even, dev's odd."""
        numbers = itertools.count()
        run = self._stream = object()

        def tick() -> None:
            if self._stream is not run:
                return
            number = next(numbers)
            self.user.send(self.dev, 2 * number)
            self.dev.send(self.user, 2 * number + 1)
            self.after(interval, tick)

        tick()

    def pause_stream(self) -> None:
        """Both fall silent."""
        self._stream = None

    def gap(self, since: float) -> float:
        """The longest time since an instant for which either node received nothing of the other's stream."""
        return max(longest_gap([at for at, _ in node.arrived], since, self.now) for node in self.nodes)

    # Time

    @property
    def unix(self) -> float:
        return UNIX_START + self.now

    # Wires

    def carry(self, sender: Node, transmit: PathTransmit) -> None:
        """What a node sends sets out."""
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

        def pass_on() -> None:
            if receiver is not None and receiver.process is not None and self._relays_to(receiver):
                self.after(self.rtt / 2, deliver)

        def deliver() -> None:
            if receiver is not None and receiver.is_reachable and receiver.running.relay.is_up:
                receiver.running.handle_relayed(REGION, sender.public, transmit.datagrams)

        sender.running.relay.send(lambda: self.after(self.rtt / 2, pass_on))

    def _relays_to(self, receiver: Node) -> bool:
        return self.is_server_up and receiver.running.relay.peer_sees_it

    def probe_https(self, process: Process, region: int) -> None:
        """A node measures its relay without UDP."""

        def answer() -> None:
            if process.node.process is process:
                process.handle_https_latency(region, self.rtt if self.is_server_up else None)

        self.after(2 * self.rtt, answer)

    # The server

    def handle_stream_up(self, stream: Stream) -> None:
        """The server's end is open."""
        stream.peer_sees_it = True

    def handle_stream_gone(self, stream: Stream) -> None:
        """The server's end is closed: of a coordination connection, the node is lost."""
        stream.peer_sees_it = False
        connection = self._connections.pop(stream, None)
        if connection is not None:
            self._registry.lost(connection)

    def introduce(self, process: Process) -> None:
        """A node has proven itself: the server welcomes it. That is part of the stream's three round trips."""
        node = process.node
        facts = NodeFacts(
            node.public, process.core.disco_key, process.core.generation, (Capability.TUNNEL_SECRET,)
        )
        others = [other.identity for other in self.nodes if other is not node]
        stream = process.coordination

        def pump() -> None:
            connection = self._connections.get(stream)
            if connection is None:
                return
            while (message := self._registry.poll(connection, self.now)) is not None:
                self._tell(process, message)
            if (deadline := self._registry.poll_timeout(connection)) is not None:
                self.after(max(0.0, deadline.when - self.now), pump)

        connection = self._registry.connect(
            node.identity, facts, partners=others, resumed=True, wake=lambda: self.after(0.0, pump)
        )
        self._connections[stream] = connection
        me = node.identity
        entry = SelfEntry(me.node_id, me.kind.value, me.full_name, str(me.address))
        process.handle_message(Welcome(entry, derp_map_to_json(derp_map()), "resume"))

    def tell_server(self, process: Process, message: Message) -> None:
        """A node says something to the server."""
        if process.coordination.is_up:
            self.after(self.rtt / 2, lambda: self._hear(process.coordination, message))

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

    def _tell(self, process: Process, message: Message) -> None:
        def arrive() -> None:
            if process.node.process is process and process.coordination.is_up and process.node.is_reachable:
                process.handle_message(message)  # type: ignore[arg-type]

        self.after(self.rtt / 2, arrive)


def longest_gap(times: list[float], since: float, until: float) -> float:
    """The longest interval between two of some instants, from one instant to another."""
    within = [since, *(at for at in times if since <= at <= until), until]
    return max(after - before for before, after in itertools.pairwise(within))


def derp_map() -> DerpMap:
    """One relay, with STUN on two ports of its address."""
    nodes = tuple(
        DerpNode(name, REGION, SERVER_IP, ipv4=SERVER_IP, ipv6="none", stun_port=port, stun_only=port != 3478)
        for name, port in zip(("999b", "999c"), STUN_PORTS, strict=True)
    )
    return DerpMap({REGION: DerpRegion(REGION, "coder", "Coder", nodes)})
