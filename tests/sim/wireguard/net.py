"""A virtual internet of two: one clock, one seed, a wire that loses, delays, reorders and duplicates, and an Eve who watches.

Nothing here waits: ``run_until`` jumps from one event to the next, so that a virtual day takes as long as its events do.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from math import inf
from typing import NamedTuple, cast

from coderd.model.keys import NodePrivate
from coderd.wireguard import Authenticated, Device, Event
from tests.sim.net import Clock, Wire
from tests.unit.wireguard.support import Source, packet

UNIX_START = 1_700_000_000.0
INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT = 1, 2, 3, 4


class Seen(NamedTuple):
    """One datagram that Eve saw being sent."""

    at: float
    sender: str
    data: bytes

    @property
    def kind(self) -> int:
        return self.data[0]

    @property
    def is_keepalive(self) -> bool:
        return self.kind == TRANSPORT and len(self.data) == 32


@dataclass
class Node:
    """A device and what came out of it."""

    name: str
    key: NodePrivate
    device: Device
    source: Source
    packets: list[bytes] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)

    def events_of(self, kind: type) -> list[float]:
        return [at for at, event in self.events if isinstance(event, kind)]


class Net(Clock):
    """Nodes ``a`` and ``b``, 10.77.0.1 and 10.77.0.2."""

    def __init__(self, *, seed: int = 1, wire: Wire | None = None) -> None:
        super().__init__(now=0.0)
        self.wire = wire or Wire()
        self.eve: list[Seen] = []
        self._random = random.Random(seed)
        keys = {name: NodePrivate.generate(self._random.randbytes) for name in "ab"}
        self.nodes = {name: self._node(name, keys) for name in "ab"}
        self.a, self.b = self.nodes["a"], self.nodes["b"]
        self._keys = keys

    @property
    def unix(self) -> float:
        return UNIX_START + self.now

    # Commands

    def send(self, name: str, number: int = 0, size: int = 100) -> None:
        """A numbered packet from one node to the other."""
        there = {"a": ("10.77.0.1", "10.77.0.2"), "b": ("10.77.0.2", "10.77.0.1")}[name]
        inner = packet(*there, size=size)
        inner = inner[:20] + number.to_bytes(4, "big") + inner[24:]
        self.nodes[name].device.handle_packets([inner], self.now, self.unix)
        self._drain(self.nodes[name])

    def restart(self, name: str) -> None:
        """A node crashes and comes back with nothing but its key and its timestamp mark."""
        old = self.nodes[name]
        self.nodes[name] = self._node(name, self._keys, old.device.tai64n_mark)
        setattr(self, name, self.nodes[name])

    def command(self, name: str, action: Callable[[Device], None]) -> None:
        """Anything else that can be said to a device."""
        action(self.nodes[name].device)
        self._drain(self.nodes[name])

    def run_until(self, when: float) -> None:
        """Lets everything happen up to an instant."""
        while True:
            wakes = [(self._wakes_at(node), node.name) for node in self.nodes.values()]
            wake, name = min(wakes)
            planned = self.next_at()
            if min(wake, planned) > when:
                break
            self.now = max(self.now, min(wake, planned))
            if planned <= wake:
                self.run_next()
            else:
                self.nodes[name].device.handle_timeout(self.now, self.unix)
                self._drain(self.nodes[name])
        self.now = when

    # Looking

    def seen(self, sender: str, kind: int) -> list[float]:
        """When Eve saw a node send a kind of message."""
        return [seen.at for seen in self.eve if (seen.sender, seen.kind) == (sender, kind)]

    def keepalives(self, sender: str) -> list[float]:
        return [seen.at for seen in self.eve if seen.sender == sender and seen.is_keepalive]

    def delivered(self, name: str) -> Counter[int]:
        """Numbers of the packets that reached a node, and how often."""
        return Counter(int.from_bytes(inner[20:24], "big") for inner in self.nodes[name].packets)

    # Privates

    def _node(self, name: str, keys: dict[str, NodePrivate], mark: bytes | None = None) -> Node:
        other = {"a": "b", "b": "a"}[name]
        device = Device(rng=self._random.randbytes, now=self.now, mtu=1420, tai64n_floor=mark)
        device.set_private_key(keys[name], self.now)
        allowed = {"a": "10.77.0.2/32", "b": "10.77.0.1/32"}[name]
        device.set_peer(keys[other].public(), self.now, allowed_ips=[ip_network(allowed)])
        device.up(self.now)
        return Node(name, keys[name], device, Source(b"\x0a\0\0" + name.encode() + b"\x10\x01"))

    def _wakes_at(self, node: Node) -> float:
        deadline = node.device.poll_timeout()
        return deadline.when if deadline is not None else inf

    def _drain(self, node: Node) -> None:
        while (event := node.device.poll_event()) is not None:
            node.events.append((self.now, event))
        while (received := node.device.poll_packets()) is not None:
            node.packets += map(bytes, received.packets)
        while (transmit := node.device.poll_transmit()) is not None:
            for datagram in transmit.datagrams:
                self._carry(node, datagram)

    def _carry(self, sender: Node, datagram: bytes) -> None:
        self.eve.append(Seen(self.now, sender.name, datagram))
        receiver = "b" if sender.name == "a" else "a"
        for delay in self.wire.delays(self._random):
            self.at(self.now + delay, partial(self._deliver, receiver, sender.source, datagram))

    def _deliver(self, name: str, source: Source, datagram: bytes) -> None:
        node = self.nodes[name]
        node.device.handle_datagrams(source, [memoryview(datagram)], self.now, self.unix)
        self._drain(node)


def sources_of(node: Node) -> list[Source]:
    """Where a node's peer was, each time anew."""
    sources = [cast(Source, event.source) for _, event in node.events if isinstance(event, Authenticated)]
    return [source for n, source in enumerate(sources) if n == 0 or source != sources[n - 1]]
