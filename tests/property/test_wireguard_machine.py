r"""Three devices, every command, and a wire that does anything to datagrams.

The invariants hold for every sequence that Hypothesis generates.

::

    a ──── b        each is a peer of both others; datagrams wait on the wire until a rule delivers, loses, repeats,
     \    /        damages or misdirects one of them; virtual time passes only by ``tick``
       c

Nothing may raise; a packet comes out where it was sent to, of whom sent it, at most once; every datagram that
goes in is accepted or counted under one reason; what is damaged is never answered; no two datagrams share
index and counter; and however badly a run has gone, once the wire is whole again every pair talks.
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

MISHAPS = (
    "restart", "roam", "change_preshared_key_on_one_side", "turn_keepalive_on", "remove_peer", "add",
    "forget_sessions", "take_link_down", "take_link_up", "send_until_rekey", "send_until_reject",
)  # fmt: skip
MANGLINGS = ("damage", "truncate", "reflect", "misdirect")

pairs = st.sampled_from(PAIRS)
choices = st.integers(0, 1000)
"""Which of what is on the wire, or was, modulo how much there is."""


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
        self.answered: set[bytes] = set()
        """Initiations that it has accepted since it knows its peers."""
        self.device: Device

    @property
    def public(self) -> NodePublic:
        return self.key.public()

    def n_outcomes(self) -> int:
        return sum(self.counters[reason] for reason in OUTCOMES)

    def rx_bytes(self, now: float) -> int:
        return sum(peer.rx_bytes for peer in self.device.status(now).peers)


class World(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32), is_connected=st.booleans())
    def begin(self, seed: int, is_connected: bool) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.wire: list[InFlight] = []
        self.history: list[InFlight] = []
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
        if is_connected:
            for pair in (("a", "b"), ("b", "c"), ("c", "a")):
                self.initiate(pair, False)
            self.deliver_everything()

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

    @rule(pair=pairs, force=st.booleans())
    def initiate(self, pair: tuple[str, str], force: bool) -> None:
        node, other = self.ends(pair)
        node.device.initiate(other.public, self.now, self.unix, force=force)
        self.drain(node)

    @rule(pair=pairs, mishap=st.sampled_from(MISHAPS))
    def suffer(self, pair: tuple[str, str], mishap: str) -> None:
        """One rule for all that sets a pair back, so that most steps of a run get somewhere."""
        getattr(self, mishap)(*self.ends(pair))

    def restart(self, node: Node, other: Node) -> None:
        self.boot(node, node.device.tai64n_mark)

    def roam(self, node: Node, other: Node) -> None:
        node.address = self.new_address(node.name)

    def change_preshared_key_on_one_side(self, node: Node, other: Node) -> None:
        if self.knows(node, other):
            node.device.set_peer(other.public, self.now, preshared_key=b"\x01" * 32)

    def turn_keepalive_on(self, node: Node, other: Node) -> None:
        if self.knows(node, other):
            node.device.set_peer(other.public, self.now, persistent_keepalive=25)
            self.drain(node)

    def remove_peer(self, node: Node, other: Node) -> None:
        node.device.remove_peer(other.public, self.now)
        node.answered.clear()
        self.drain(node)

    def forget_sessions(self, node: Node, other: Node) -> None:
        node.device.forget_sessions(other.public, self.now)
        self.drain(node)

    def take_link_down(self, node: Node, other: Node) -> None:
        node.device.down(self.now)
        self.drain(node)

    def take_link_up(self, node: Node, other: Node) -> None:
        node.device.up(self.now)
        self.drain(node)

    def send_until_rekey(self, node: Node, other: Node) -> None:
        self.wear_out(node, other, REKEY_AFTER_MESSAGES)

    def send_until_reject(self, node: Node, other: Node) -> None:
        self.wear_out(node, other, REJECT_AFTER_MESSAGES - 2)

    def wear_out(self, node: Node, other: Node, counter: int) -> None:
        """A session that has sent as many messages as nobody ever sends."""
        peer = node.device._peers.get(other.public)
        if peer is not None and (current := peer._slots.current) is not None:
            current.send_counter = max(current.send_counter, counter)

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

    @precondition(lambda self: self.history)
    @rule(choice=choices)
    def repeat(self, choice: int) -> None:
        """Something that was sent, long ago or just now, arrived or not."""
        self.arrive(self.history[-1 - choice % len(self.history)])

    @precondition(lambda self: self.wire)
    @rule(choice=choices)
    def lose(self, choice: int) -> None:
        self.wire.pop(choice % len(self.wire))

    @precondition(lambda self: self.history)
    @rule(choice=choices, how=st.sampled_from(MANGLINGS), where=st.integers(0, 8 * 1500))
    def mangle(self, choice: int, how: str, where: int) -> None:
        found = self.history[-1 - choice % len(self.history)]
        for mangled in getattr(self, how)(found, where):
            self.arrive(mangled, is_genuine=False)

    def damage(self, found: InFlight, where: int) -> list[InFlight]:
        n_guarded = len(found.data) - (MAC2_SIZE if found.data[0] in (INITIATION, RESPONSE) else 0)
        at = where % (8 * n_guarded)  # MAC2 is looked at under load alone
        data = bytearray(found.data)
        data[at // 8] ^= 1 << at % 8
        return [found._replace(data=bytes(data))]

    def truncate(self, found: InFlight, where: int) -> list[InFlight]:
        return [found._replace(data=found.data[: where % len(found.data)])]

    def reflect(self, found: InFlight, where: int) -> list[InFlight]:
        return [found._replace(to=self.nodes[found.sender].address)]

    def misdirect(self, found: InFlight, where: int) -> list[InFlight]:
        third = set(NAMES) - {found.sender, found.to.cookie_bytes[:1].decode()}
        return [found._replace(to=self.nodes[name].address) for name in third]

    @rule(pair=pairs, data=st.binary(max_size=200))
    def junk(self, pair: tuple[str, str], data: bytes) -> None:
        self.arrive(InFlight(data, "?", Source(b"stranger"), self.nodes[pair[0]].address), is_genuine=False)

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

    def ends(self, pair: tuple[str, str]) -> tuple[Node, Node]:
        return self.nodes[pair[0]], self.nodes[pair[1]]

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
        node.answered.clear()

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
        if is_accepted and datagram.data[0] == INITIATION:
            assert datagram.data not in node.answered
            node.answered.add(datagram.data)
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
                self.history.append(self.wire[-1])

    def overhear(self, data: bytes) -> None:
        """Eve: no index and counter twice, no counter past the last, and no handshake message twice."""
        if data[0] == TRANSPORT:
            assert int.from_bytes(data[8:16], "little") < REJECT_AFTER_MESSAGES
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
