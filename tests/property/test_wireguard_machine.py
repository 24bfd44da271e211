"""Three devices, every command, and a wire that does anything to datagrams: what holds whatever Hypothesis thinks of.

::

    a ──── b        each is a peer of both others; datagrams wait on the wire until a rule delivers, loses, repeats,
     \\    /        damages or misdirects one of them; virtual time passes only by ``tick``
       c

Nothing may raise; a packet comes out where it was sent to, of whom sent it, at most once; every datagram that goes in is
accepted or counted under one reason; what is damaged is never answered; no two datagrams share index and counter; and
however badly a run has gone, once the wire is whole again every pair talks.
"""

import random
from collections import Counter
from ipaddress import ip_network
from itertools import count, permutations
from math import inf
from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coderd.model.keys import NodePrivate, NodePublic
from coderd.wireguard import Authenticated, Device
from coderd.wireguard.message import COOKIE_REPLY, INITIATION, RESPONSE, TRANSPORT
from coderd.wireguard.replay import REJECT_AFTER_MESSAGES
from coderd.wireguard.timers import REKEY_AFTER_MESSAGES
from tests.unit.wireguard.support import Source, packet

NAMES = "abc"
PAIRS = list(permutations(NAMES, 2))
UNIX_START = 1_700_000_000.0
INNER = {"a": "10.77.0.1", "b": "10.77.0.2", "c": "10.77.0.3"}
MAC2_SIZE = 16

OUTCOMES = (
    "wireguard.cookie_replies_sent",
    *(
        f"wireguard.drop.{reason}"
        for reason in (
            "cookie_reply", "down", "expired", "forged", "handshake_queue_full", "handshake_rate",
            "handshake_refused", "initiation_flood", "mac1", "malformed", "old_timestamp", "replay",
            "unknown_index", "unknown_peer",
        )
    ),
)  # fmt: skip
"""What a datagram can come to, besides being accepted."""

names = st.sampled_from(NAMES)
pairs = st.sampled_from(PAIRS)
choices = st.integers(0, 1000)
"""Which of what is on the wire, modulo how much there is: small numbers are old datagrams."""


class InFlight(NamedTuple):
    """A datagram on the wire."""

    data: bytes
    sender: str
    source: Source
    to: Source


class Node:
    """A device, where it is, and where it believes the others to be."""

    def __init__(self, name: str, key: NodePrivate, address: Source) -> None:
        self.name = name
        self.key = key
        self.address = address
        self.endpoints: dict[NodePublic, Source] = {}
        self.counters: Counter[str] = Counter()
        self.device: Device

    @property
    def public(self) -> NodePublic:
        return self.key.public()

    def n_outcomes(self) -> int:
        return sum(self.counters[reason] for reason in OUTCOMES)

    def rx_bytes(self, now: float) -> int:
        return sum(peer.rx_bytes for peer in self.device.status(now).peers)


class World(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.wire: list[InFlight] = []
        self.sent: dict[int, tuple[str, str]] = {}
        self.delivered: Counter[int] = Counter()
        self.numbers = count(1)
        self.ports = count(1)
        self.eve: set[bytes] = set()
        self.preshared = {frozenset(pair): bytes(32) for pair in PAIRS}
        self.nodes = {
            name: Node(name, NodePrivate.generate(self.random.randbytes), self.new_address(name))
            for name in NAMES
        }
        self.by_key = {node.public: node for node in self.nodes.values()}
        for node in self.nodes.values():
            self.boot(node, None)

    # Rules: what people and programs do

    @rule(pair=pairs, n=st.integers(1, 5), size=st.sampled_from([24, 100, 1420]))
    def send(self, pair: tuple[str, str], n: int, size: int) -> None:
        sender, receiver = pair
        packets = []
        for number in [next(self.numbers) for _ in range(n)]:
            self.sent[number] = pair
            inner = packet(INNER[sender], INNER[receiver], size=size)
            packets.append(inner[:20] + number.to_bytes(4, "big") + inner[24:])
        node = self.nodes[sender]
        node.device.handle_packets(packets, self.now, self.unix)
        self.drain(node)

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.5, 5.1, 10.5, 16.0, 60.0, 121.0, 181.0, 541.0]))
    def tick(self, seconds: float) -> None:
        self.run_until(self.now + seconds)

    @rule(name=names)
    def restart(self, name: str) -> None:
        node = self.nodes[name]
        self.boot(node, node.device.tai64n_mark)

    @rule(name=names)
    def roam(self, name: str) -> None:
        self.nodes[name].address = self.new_address(name)

    @rule(pair=pairs, psk=st.sampled_from([bytes(32), b"\x01" * 32]))
    def change_preshared_key_on_one_side(self, pair: tuple[str, str], psk: bytes) -> None:
        node, other = self.nodes[pair[0]], self.nodes[pair[1]]
        if self.knows(node, other):
            node.device.set_peer(other.public, self.now, preshared_key=psk)

    @rule(pair=pairs, keepalive=st.sampled_from([0, 1, 25]))
    def change_keepalive(self, pair: tuple[str, str], keepalive: int) -> None:
        node, other = self.nodes[pair[0]], self.nodes[pair[1]]
        if self.knows(node, other):
            node.device.set_peer(other.public, self.now, persistent_keepalive=keepalive)
            self.drain(node)

    @rule(pair=pairs)
    def remove_peer(self, pair: tuple[str, str]) -> None:
        node, other = self.nodes[pair[0]], self.nodes[pair[1]]
        node.device.remove_peer(other.public, self.now)
        self.drain(node)

    @rule(pair=pairs)
    def add_peer(self, pair: tuple[str, str]) -> None:
        self.add(self.nodes[pair[0]], self.nodes[pair[1]])

    @rule(pair=pairs, force=st.booleans())
    def initiate(self, pair: tuple[str, str], force: bool) -> None:
        node, other = self.nodes[pair[0]], self.nodes[pair[1]]
        node.device.initiate(other.public, self.now, self.unix, force=force)
        self.drain(node)

    @rule(pair=pairs)
    def forget_sessions(self, pair: tuple[str, str]) -> None:
        node, other = self.nodes[pair[0]], self.nodes[pair[1]]
        node.device.forget_sessions(other.public, self.now)
        self.drain(node)

    @rule(name=names, is_up=st.booleans())
    def set_link(self, name: str, is_up: bool) -> None:
        device = self.nodes[name].device
        (device.up if is_up else device.down)(self.now)
        self.drain(self.nodes[name])

    @rule(pair=pairs, left=st.sampled_from([None, 0, 1, 7]))
    def wear_out_a_session(self, pair: tuple[str, str], left: int | None) -> None:
        """As many messages as nobody sends: up to the next handshake (None), or to all but a few of the last."""
        peer = self.nodes[pair[0]].device._peers.get(self.nodes[pair[1]].public)
        if peer is not None and (current := peer._slots.current) is not None:
            target = REKEY_AFTER_MESSAGES if left is None else REJECT_AFTER_MESSAGES - left
            current.send_counter = max(current.send_counter, target)

    # Rules: what the wire does

    @precondition(lambda self: self.wire)
    @rule(choice=choices)
    def deliver(self, choice: int) -> None:
        self.arrive(self.wire.pop(choice % len(self.wire)))

    @precondition(lambda self: self.wire)
    @rule()
    def deliver_everything(self) -> None:
        for _ in range(200):
            if not self.wire:
                return
            self.arrive(self.wire.pop(0))

    @precondition(lambda self: self.wire)
    @rule(choice=choices)
    def repeat(self, choice: int) -> None:
        self.arrive(self.wire[choice % len(self.wire)])

    @precondition(lambda self: self.wire)
    @rule(choice=choices)
    def lose(self, choice: int) -> None:
        self.wire.pop(choice % len(self.wire))

    @precondition(lambda self: self.wire)
    @rule(choice=choices, bit=st.integers(0, 8 * 1500))
    def damage(self, choice: int, bit: int) -> None:
        found = self.wire[choice % len(self.wire)]
        n_guarded = len(found.data) - (MAC2_SIZE if found.data[0] in (INITIATION, RESPONSE) else 0)
        at = bit % (8 * n_guarded)  # MAC2 is looked at under load alone
        data = bytearray(found.data)
        data[at // 8] ^= 1 << at % 8
        self.arrive(found._replace(data=bytes(data)), is_genuine=False)

    @precondition(lambda self: self.wire)
    @rule(choice=choices, size=st.integers(0, 1500))
    def truncate(self, choice: int, size: int) -> None:
        found = self.wire[choice % len(self.wire)]
        self.arrive(found._replace(data=found.data[: size % len(found.data)]), is_genuine=False)

    @precondition(lambda self: self.wire)
    @rule(choice=choices)
    def reflect(self, choice: int) -> None:
        found = self.wire[choice % len(self.wire)]
        self.arrive(found._replace(to=self.nodes[found.sender].address), is_genuine=False)

    @precondition(lambda self: self.wire)
    @rule(choice=choices, name=names)
    def misdirect(self, choice: int, name: str) -> None:
        found = self.wire[choice % len(self.wire)]
        if found.to.cookie_bytes[:1] not in (name.encode(), found.sender.encode()):
            self.arrive(found._replace(to=self.nodes[name].address), is_genuine=False)

    @rule(name=names, data=st.binary(max_size=200))
    def junk(self, name: str, data: bytes) -> None:
        to = self.nodes[name].address
        self.arrive(InFlight(data, "?", Source(b"stranger"), to), is_genuine=False)

    # Laws

    @invariant()
    def every_packet_comes_at_most_once(self) -> None:
        assert not self.delivered or max(self.delivered.values()) == 1

    def teardown(self) -> None:
        """Everything is mended; then every pair talks, both ways."""
        if not hasattr(self, "nodes"):
            return
        self.wire.clear()
        for node in self.nodes.values():
            node.device.up(self.now)
            for other in self.nodes.values():
                if other is not node:
                    self.add(node, other)
                    node.endpoints[other.public] = other.address
        last = next(self.numbers)
        for _ in range(40):  # the longest wait is for a session to be found dead, 15 s, and a handshake, 5 s
            last = next(self.numbers)
            for pair in PAIRS:
                self.send(pair, 1, 100)
            self.deliver_everything()
            self.run_until(self.now + 1.0)
            self.deliver_everything()
        recent = Counter(pair for number, pair in self.sent.items() if number > last)
        arrived = Counter(self.sent[number] for number in self.delivered if number > last)
        assert recent == arrived
        self.every_packet_comes_at_most_once()

    # Privates

    @property
    def unix(self) -> float:
        return UNIX_START + self.now

    def new_address(self, name: str) -> Source:
        return Source(name.encode() + next(self.ports).to_bytes(5, "big"))

    def knows(self, node: Node, other: Node) -> bool:
        return node.device.allowed_ips(other.public) is not None

    def add(self, node: Node, other: Node) -> None:
        node.device.set_peer(
            other.public, self.now, preshared_key=bytes(32), allowed_ips=[ip_network(INNER[other.name])]
        )
        node.endpoints.setdefault(other.public, other.address)
        self.drain(node)

    def boot(self, node: Node, mark: bytes | None) -> None:
        node.device = Device(
            rng=self.random.randbytes, now=self.now, mtu=1420, counters=node.counters, tai64n_floor=mark
        )
        node.device.set_private_key(node.key, self.now)
        for other in self.nodes.values():
            if other is not node:
                self.add(node, other)
        node.device.up(self.now)

    def run_until(self, when: float) -> None:
        while True:
            deadlines = [(self.wakes_at(node), node.name) for node in self.nodes.values()]
            at, name = min(deadlines)
            if at > when:
                break
            self.now = max(self.now, at)
            self.nodes[name].device.handle_timeout(self.now, self.unix)
            self.drain(self.nodes[name])
        self.now = when

    def wakes_at(self, node: Node) -> float:
        deadline = node.device.poll_timeout()
        return deadline.when if deadline is not None else inf

    def arrive(self, datagram: InFlight, *, is_genuine: bool = True) -> None:
        """Hands a datagram to who is at its address, nobody if that has moved, and settles the account."""
        node = next((each for each in self.nodes.values() if each.address == datagram.to), None)
        if node is None:
            return
        device, n_on_wire = node.device, len(self.wire)
        n_before, rx_before = node.n_outcomes(), node.rx_bytes(self.now)
        device.handle_datagrams(datagram.source, [memoryview(datagram.data)], self.now, self.unix)
        n_counted = node.n_outcomes() - n_before
        is_accepted = node.rx_bytes(self.now) > rx_before
        is_kept = is_genuine and datagram.data[0] == COOKIE_REPLY and not n_counted
        n_waiting = device.status(self.now).n_queued_handshakes
        assert n_counted + is_accepted + is_kept + bool(n_waiting) == 1
        assert is_genuine or not is_accepted
        self.drain(node)
        assert is_genuine or len(self.wire) == n_on_wire

    def drain(self, node: Node) -> None:
        device = node.device
        while (event := device.poll_event()) is not None:
            if isinstance(event, Authenticated):
                assert isinstance(event.source, Source)
                node.endpoints[event.peer] = event.source
        while (received := device.poll_packets()) is not None:
            for inner in received.packets:
                number = int.from_bytes(inner[20:24], "big")
                assert self.sent[number] == (self.by_key[received.peer].name, node.name)
                self.delivered[number] += 1
        while (transmit := device.poll_transmit()) is not None:
            to = node.endpoints[transmit.to] if isinstance(transmit.to, NodePublic) else transmit.to
            assert isinstance(to, Source)
            for data in transmit.datagrams:
                self.overhear(data)
                self.wire.append(InFlight(data, node.name, node.address, to))

    def overhear(self, data: bytes) -> None:
        """Eve: no index and counter twice, and no handshake message twice."""
        mark = data[:16] if data[0] == TRANSPORT else data
        assert mark not in self.eve
        self.eve.add(mark)


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
