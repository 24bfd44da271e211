"""A small internet under a virtual clock: hosts behind NATs, a relay that is a STUN server too, loss, blocked UDP.

```
 node a --- NAT a ---+                +--- NAT b --- node b     every hop between two public places takes HOP seconds
                     +--- internet ---+
 node a ~~~ TLS ~~~~~ relay and STUN ~~~~~ TLS ~~~ node b       the relay is reached whatever UDP does
```
"""

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv6Address
from random import Random
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
from coderd.model.addresses import AddrPort
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPrivate, NodePrivate, NodePublic
from coderd.model.netmap import Capability, NodeKind, Peer
from coderd.model.transport import DerpTransmit, UdpSource, UdpTransmit
from coderd.stun import encode_response, parse_request
from tests.sim.net import Clock, Nat

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

    name: str
    conn: Conn
    key: NodePrivate
    disco: DiscoPrivate
    addr: AddrPort
    nat: Nat | None
    spare: dict[int, AddrPort] = field(default_factory=dict)
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

    def replies(self) -> list[tuple[float, PingReply]]:
        return [(at, event) for at, event in self.events if isinstance(event, PingReply)]


class Internet(Clock):
    """The clock, the wires and what may happen to them."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(now=1000.0)
        self.rng = Random(seed)
        self.loss = 0.0
        self.is_udp_blocked = False
        """Between nodes; STUN goes on."""
        self.is_stun_blocked = False
        self.jitter = 0.0
        """Most seconds that a datagram between nodes takes longer, at random."""
        self.stun_hop = HOP
        """Seconds from a node to the STUN server, and back."""
        self.largest_payload = 65535
        """What the wires between nodes carry, bytes of UDP payload."""
        self.nodes: list[Node] = []

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
        node = Node(name, conn, key, disco, (ip, 41641), nat, plays_birthday=plays_birthday)
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

    def run_for(self, seconds: float) -> None:
        """Lets time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], limit: float) -> float:
        """Runs until a condition holds; returns the seconds that took, ``limit`` where it never did."""
        began, end = self.now, self.now + limit
        while not condition():
            when = self._next_event_at()
            if when > end:
                self.now = end
                break
            self.now = max(self.now, when)
            self._step()
        return self.now - began

    def send(self, sender: Node, to: Node, data: bytes, n: int = 1) -> None:
        """WireGuard data, ``n`` datagrams in one batch."""
        sender.conn.send(to.public, [b"\4\0\0\0" + data] * n, 4 + len(data), self.now)
        self.drain(sender)

    def ping(self, sender: Node, to: Node, token: int) -> None:
        sender.conn.ping(to.public, token, self.now)
        self.drain(sender)

    def _next_event_at(self) -> float:
        deadlines = [d.when for node in self.nodes if (d := node.conn.poll_timeout()) is not None]
        return min([self.next_at(), *deadlines])

    def _step(self) -> None:
        self.run_due()
        for node in self.nodes:
            deadline = node.conn.poll_timeout()
            if deadline is not None and deadline.when <= self.now:
                node.conn.handle_timeout(self.now)
                self.drain(node)

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

    def _open(self, node: Node, sockets: tuple[int, ...]) -> None:
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
        source = sender.nat.outbound(inside, transmit.addr) if sender.nat else inside
        for datagram in transmit.datagrams:
            if self.rng.random() >= self.loss:
                self._fly(source, transmit.addr, datagram)

    def _relay(self, sender: Node, receiver: Node, datagrams: list[bytes]) -> None:
        source, rest = receiver.conn.handle_relayed(REGION, sender.public, datagrams, self.now)
        self._deliver(receiver, sender, source, rest, "relay")

    def _fly(self, source: AddrPort, to: AddrPort, datagram: bytes) -> None:
        if to[0] == RELAY_IP:
            if to[1] in STUN_PORTS and not self.is_stun_blocked:
                self.at(self.now + self.stun_hop, lambda: self._answer_stun(source, to, datagram))
        elif not self.is_udp_blocked and len(datagram) <= self.largest_payload:
            late = self.jitter * self.rng.random() if self.jitter else 0.0
            self.at(self.now + HOP + late, lambda: self._land(source, to, datagram))

    def _answer_stun(self, source: AddrPort, server: AddrPort, datagram: bytes) -> None:
        try:
            tx = parse_request(datagram)
        except MalformedPacket:
            return
        if self.rng.random() >= self.loss:
            self.at(self.now + self.stun_hop, lambda: self._land(server, source, encode_response(tx, source)))

    def _land(self, source: AddrPort, to: AddrPort, datagram: bytes) -> None:
        for node in self.nodes:
            if (socket := self._socket_at(node, source, to)) is not None:
                came_from, rest = node.conn.handle_udp(UdpSource(source, socket), [datagram], self.now)
                sender = next((n for n in self.nodes if n is not node), node)
                self._deliver(node, sender, came_from, rest, "direct")

    def _socket_at(self, node: Node, source: AddrPort, to: AddrPort) -> int | None:
        """The number of a node's socket that a datagram reaches, 0 for the usual one."""
        inside: AddrPort | None = to
        if node.nat is not None:
            inside = node.nat.inbound(source, to[1]) if node.nat.ip == to[0] else None
        if inside == node.addr:
            return 0
        return next((number for number, addr in node.spare.items() if addr == inside), None)

    def _deliver(self, node: Node, sender: Node, source: object, rest: list[bytes], kind: str) -> None:
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
