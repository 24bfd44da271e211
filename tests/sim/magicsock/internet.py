"""Conns alone on the virtual internet, with a relay that is a STUN server too.

```
 node a --- NAT a ---+                +--- NAT b --- node b     every hop between two public places takes HOP seconds
                     +--- internet ---+
 node a ~~~ TLS ~~~~~ relay and STUN ~~~~~ TLS ~~~ node b       the relay is reached whatever UDP does
```
"""

import errno
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv6Address
from uuid import UUID

from coderd.magicsock import (
    Conn,
    ConnEvent,
    EndpointsChanged,
    HomeChanged,
    HttpsProbeWanted,
    PingReply,
    SocketsUnwanted,
    SocketsWanted,
)
from coderd.model import Buffer
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.keys import DiscoPrivate, NodePrivate, NodePublic
from coderd.model.netmap import Capability, NodeKind, Peer
from coderd.model.transport import MAIN_SOCKET, DerpTransmit, SocketId, Source, UdpSource, UdpTransmit
from tests.sim.nat import Nat
from tests.sim.net import Network, Wire

HOP = 0.02
"""Seconds from one public place to another."""
REGION = 999
RELAY_IP = "192.0.2.10"
STUN_PORTS = (3478, 3479)
COORDINATION_DELAY = 0.03
"""Seconds from one node's news to the other's NetMap."""


@dataclass
class Node:
    """One node: its Conn, its place, what it saw."""

    net: "Internet"
    name: str
    conn: Conn
    key: NodePrivate
    disco: DiscoPrivate
    addr: AddrPort
    nat: Nat | None
    spare: dict[SocketId, AddrPort] = field(default_factory=dict)
    """Its spare sockets' addresses inside, by number."""
    plays_birthday: bool = False
    generation: int = 1
    endpoints: tuple[AddrPort, ...] = ()
    home: int = 0
    told_at: float | None = None
    """When its first STUN endpoint became known."""
    events: list[tuple[float, ConnEvent]] = field(default_factory=list)
    delivered: list[tuple[float, str, bytes]] = field(default_factory=list)
    """WireGuard datagrams that arrived: when, by which kind of path, which."""
    n_sent: Counter[str] = field(default_factory=Counter)

    @cached_property
    def public(self) -> NodePublic:
        return self.key.public()

    @property
    def is_reachable(self) -> bool:
        """Whether what arrives is read: always."""
        return True

    def socket_at(self, inside: AddrPort) -> SocketId | None:
        """Returns which of its sockets is bound to an address; None: none."""
        if inside == self.addr:
            return MAIN_SOCKET
        return next((number for number, addr in self.spare.items() if addr == inside), None)

    def handle_datagram(self, source: UdpSource, datagram: bytes, *, is_congested: bool) -> None:
        """Takes a datagram that has arrived."""
        came_from, rest = self.conn.handle_udp(source, [datagram], self.net.now)
        sender = next((node for node in self.net.nodes if node is not self), self)
        self.net.deliver(self, sender, came_from, rest, "direct")

    def poll_timeout(self) -> Deadline | None:
        """Returns when ``handle_timeout`` is due; None: never."""
        return self.conn.poll_timeout()

    def handle_timeout(self) -> None:
        """Fires its timers."""
        self.conn.handle_timeout(self.net.now)
        self.net.drain(self)

    def replies(self) -> list[tuple[float, PingReply]]:
        return [(at, event) for at, event in self.events if isinstance(event, PingReply)]


class Internet(Network):
    """Conns that a server introduces to each other at once, and their relay."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed, wire=Wire(delay=HOP))
        self.stun = Wire(delay=HOP)
        self.stun_servers |= {(RELAY_IP, port): self.stun for port in STUN_PORTS}
        self.nodes: list[Node] = []

    def hosts(self) -> list[Node]:
        """Returns every node, in the order of their making."""
        return self.nodes

    def lose(self, loss: float) -> None:
        """Loses a share of all datagrams, also of those to and from the STUN server."""
        self.wire.loss = self.stun.loss = loss

    # Building

    def add_node(self, name: str, nat: Nat | None, *, ip: str, plays_birthday: bool = False) -> Node:
        """A node at ``ip``, behind a NAT or in the open."""
        key, disco = NodePrivate.generate(self.rng.randbytes), DiscoPrivate.generate(self.rng.randbytes)
        conn = Conn(
            node_key=key.public(),
            disco_key=disco,
            rng=self.rng.randbytes,
            now=self.now,
            plays_birthday=plays_birthday,
        )
        node = Node(self, name, conn, key, disco, (ip, 41641), nat, plays_birthday=plays_birthday)
        self.nodes.append(node)
        return node

    def start(self) -> None:
        """Every node learns of the relay and of each other."""
        for node in self.nodes:
            node.conn.set_local_endpoints(41641, None, [node.addr[0]], self.now)
            node.conn.set_derp_map(derp_map(), {}, self.now)
            node.conn.handle_relay_connected(REGION, self.now)
            self.drain(node)
            self.coordinate(node)

    def restart(self, node: Node) -> None:
        """A node's process dies and comes back with new disco key and generation, at the same socket address."""
        node.disco = DiscoPrivate.generate(self.rng.randbytes)
        node.generation += 1
        node.conn = Conn(node_key=node.public, disco_key=node.disco, rng=self.rng.randbytes, now=self.now)
        node.conn.set_local_endpoints(41641, None, [node.addr[0]], self.now)
        node.conn.set_derp_map(derp_map(), {}, self.now)
        node.conn.handle_relay_connected(REGION, self.now)
        self.drain(node)
        for each in self.nodes:
            self.coordinate(each)

    # Running

    def send(self, sender: Node, to: Node, data: bytes, n: int = 1) -> None:
        """WireGuard data, ``n`` datagrams in one batch."""
        sender.conn.send(to.public, [b"\4\0\0\0" + data] * n, 4 + len(data), self.now)
        self.drain(sender)

    def ping(self, sender: Node, to: Node, token: int) -> None:
        sender.conn.ping(to.public, token, self.now)
        self.drain(sender)

    # Wires

    def drain(self, node: Node) -> None:
        while (transmit := node.conn.poll_transmit()) is not None:
            self._carry(node, transmit)
        while (event := node.conn.poll_event()) is not None:
            node.events.append((self.now, event))
            self._note(node, event)

    def _note(self, node: Node, event: ConnEvent) -> None:
        if isinstance(event, EndpointsChanged):
            node.endpoints = tuple(addr for addr, _ in event.endpoints)
            if node.told_at is None and any(kind == 2 for _, kind in event.endpoints):
                node.told_at = self.now
            self.coordinate(node)
        elif isinstance(event, HomeChanged):
            node.home = event.region
            self.coordinate(node)
        elif isinstance(event, SocketsWanted):
            self.at(self.now, lambda: self._open(node, event.sockets))
        elif isinstance(event, SocketsUnwanted):
            for number in event.sockets:
                node.spare.pop(number, None)
        elif isinstance(event, HttpsProbeWanted):
            self.at(self.now + 4 * HOP, lambda: self._answer_https(node))

    def _open(self, node: Node, sockets: tuple[SocketId, ...]) -> None:
        node.spare |= {number: (node.addr[0], 42000 + number % 20000) for number in sockets}
        node.conn.handle_sockets_opened(sockets, self.now)
        self.drain(node)

    def _answer_https(self, node: Node) -> None:
        node.conn.handle_https_latency(REGION, 2 * HOP, self.now)
        self.drain(node)

    def coordinate(self, node: Node) -> None:
        """The server passes a node's news on to the others."""
        self.at(self.now + COORDINATION_DELAY, self._tell_everyone)

    def _tell_everyone(self) -> None:
        for node in self.nodes:
            node.conn.set_netmap([peer_of(other) for other in self.nodes if other is not node], self.now)
            self.drain(node)

    def _carry(self, sender: Node, transmit: UdpTransmit | DerpTransmit) -> None:
        if isinstance(transmit, DerpTransmit):
            sender.n_sent["relay"] += len(transmit.datagrams)
            receiver = next((node for node in self.nodes if node.public == transmit.to), None)
            if receiver is not None:
                self.at(self.now + 2 * HOP, lambda: self._relay(sender, receiver, transmit.datagrams))
            return
        sender.n_sent["direct"] += len(transmit.datagrams)
        inside = sender.spare.get(transmit.socket) if transmit.socket else sender.addr
        if inside is None:
            sender.conn.handle_send_error(transmit.addr, errno.EBADF, self.now)
            return
        self.transmit(sender, inside, transmit.addr, [bytes(datagram) for datagram in transmit.datagrams])

    def _relay(self, sender: Node, receiver: Node, datagrams: list[bytes]) -> None:
        source, rest = receiver.conn.handle_relayed(REGION, sender.public, datagrams, self.now)
        self.deliver(receiver, sender, source, rest, "relay")

    def deliver(self, node: Node, sender: Node, source: Source, rest: Sequence[Buffer], kind: str) -> None:
        """Hands a node the WireGuard datagrams of a sender, which authenticates them."""
        if rest:
            n_bytes = sum(map(len, rest))
            node.conn.handle_authenticated(sender.public, source, n_bytes, self.now)
        node.delivered.extend((self.now, kind, bytes(datagram)) for datagram in rest)
        self.drain(node)


def derp_map() -> DerpMap:
    """One relay, with STUN on two ports of its address."""
    nodes = tuple(
        DerpNode(
            name, REGION, "relay.test", ipv4=RELAY_IP, ipv6="none", stun_port=port, stun_only=port != 3478
        )
        for name, port in zip(("999b", "999c"), STUN_PORTS, strict=True)
    )
    return DerpMap({REGION: DerpRegion(REGION, "coder", "Coder", nodes)})


def peer_of(node: Node) -> Peer:
    """A node as the server describes it to others."""
    return Peer(
        node_id=UUID(int=int(node.public.hex()[:32], 16)),
        kind=NodeKind.WORKSPACE,
        name=f"team/{node.name}",
        node_key=node.public,
        disco_key=node.disco.public(),
        address=IPv6Address("fd60:627a:a42b::1"),
        home_region=node.home,
        endpoints=node.endpoints,
        generation=node.generation,
        capabilities=frozenset({Capability.BIRTHDAY} if node.plays_birthday else ()),
    )
