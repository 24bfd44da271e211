"""What the tests of the engine share.

It has vectors, scripted randomness, and devices that talk to each other in memory.
"""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

from coderd.model import Buffer
from coderd.model.keys import NodePrivate, NodePublic
from coderd.wireguard import Device, Event, Transmit

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "wireguard.json").read_text())
SCENARIOS = VECTORS["scenarios"]
UNIX = 1_700_000_000.0

unhex = bytes.fromhex


class Source(NamedTuple):
    """An address as a device sees it."""

    cookie_bytes: bytes = b"\xc0\x00\x02\x07\xca\x6c"


class ScriptedRandom:
    """Gives what it was told to, by size; then bytes of a seed."""

    def __init__(self, *script: bytes, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self._script: dict[int, list[bytes]] = defaultdict(list)
        for item in script:
            self._script[len(item)].append(item)

    def __call__(self, size: int) -> bytes:
        script = self._script[size]
        return script.pop(0) if script else self._rng.randbytes(size)


def index_bytes(index: int) -> bytes:
    return index.to_bytes(4, "little")


def private(seed: int) -> NodePrivate:
    return NodePrivate.generate(random.Random(seed).randbytes)


def device(
    key: NodePrivate,
    peer: NodePublic,
    *allowed: str,
    rng: ScriptedRandom | None = None,
    preshared_key: bytes | None = None,
    mtu: int = 1420,
    now: float = 0.0,
) -> Device:
    """A device that is up, with one peer."""
    made = Device(rng=rng or ScriptedRandom(), now=now, mtu=mtu)
    made.set_private_key(key, now)
    networks = [ip_network(network) for network in allowed]
    made.set_peer(peer, now, preshared_key=preshared_key, allowed_ips=networks)
    made.up(now)
    return made


def packet(source: str, to: str, size: int = 100) -> bytes:
    """An IP packet with a true length and addresses, and nothing else true in it."""
    src, dst = ip_address(source), ip_address(to)
    if isinstance(src, IPv4Address) and isinstance(dst, IPv4Address):
        head = b"\x45\x00" + size.to_bytes(2, "big") + bytes(8) + src.packed + dst.packed
    else:
        assert isinstance(src, IPv6Address)
        head = b"\x60\x00\x00\x00" + (size - 40).to_bytes(2, "big") + b"\x3b\x40" + src.packed + dst.packed
    return head + bytes(size - len(head))


def take_transmits(device: Device) -> list[Transmit]:
    return list(iter(device.poll_transmit, None))


def take_datagrams(device: Device) -> list[bytes]:
    return [datagram for transmit in take_transmits(device) for datagram in transmit.datagrams]


def take_packets(device: Device) -> list[Buffer]:
    return [packet for received in iter(device.poll_packets, None) for packet in received.packets]


def take_events(device: Device) -> list[Event]:
    return list(iter(device.poll_event, None))


class Pair:
    """Two devices on a perfect wire. Addresses 10.77.0.1 and fd77::1 are ``a``'s, .2 and ::2 ``b``'s."""

    def __init__(self, *, preshared_key: bytes | None = None, mtu: int = 1420) -> None:
        self.key_a, self.key_b = private(1), private(2)
        self.now = 0.0
        self.source_a, self.source_b = (
            Source(b"\x0a\x00\x00\x01\x10\x01"),
            Source(b"\x0a\x00\x00\x02\x10\x01"),
        )
        self.a = device(
            self.key_a, self.key_b.public(), "10.77.0.2/32", "fd77::2/128",
            rng=ScriptedRandom(seed=1), preshared_key=preshared_key, mtu=mtu,
        )  # fmt: skip
        self.b = device(
            self.key_b, self.key_a.public(), "10.77.0.1/32", "fd77::1/128",
            rng=ScriptedRandom(seed=2), preshared_key=preshared_key, mtu=mtu,
        )  # fmt: skip

    @property
    def unix(self) -> float:
        return UNIX + self.now

    def a_sends(self, *packets: bytes) -> None:
        self.a.handle_packets(packets, self.now, self.unix)

    def b_sends(self, *packets: bytes) -> None:
        self.b.handle_packets(packets, self.now, self.unix)

    def carry(self) -> None:
        """Delivers until both are silent."""
        while (from_a := take_datagrams(self.a)) + (from_b := take_datagrams(self.b)):
            self.b.handle_datagrams(self.source_a, from_a, self.now, self.unix)
            self.a.handle_datagrams(self.source_b, from_b, self.now, self.unix)

    def tick(self, now: float) -> None:
        """Lets time pass for both; delivers nothing."""
        self.now = now
        for each in (self.a, self.b):
            each.handle_timeout(now, self.unix)

    def connect(self) -> None:
        """A session that both use."""
        self.a.initiate(self.key_b.public(), self.now, self.unix)
        self.carry()
        for each in (self.a, self.b):
            take_events(each)


def feed(device: Device, datagrams: Sequence[bytes | memoryview], source: Source, now: float = 0.0) -> None:
    device.handle_datagrams(source, datagrams, now, UNIX + now)
