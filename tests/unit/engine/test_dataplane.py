"""What daemons say to each other inside the tunnel.

Kept from the hosts, never taken from them, and not too often.
"""

from collections import deque
from ipaddress import IPv6Address
from typing import Any, NamedTuple

import pytest

from coderd.engine.dataplane import INTRODUCTION_BURST, INTRODUCTION_RATE, DataPlane
from coderd.engine.introduction import SecretWanted, encode_packet, tell_secret, want_secret
from coderd.metrics import Counters
from coderd.model.keys import NodePublic

PEER = NodePublic(bytes(range(32)))
HERE, THERE = IPv6Address("fd60:627a:a42b::1"), IPv6Address("fd60:627a:a42b::2")
QUESTION = encode_packet(THERE, HERE, want_secret())
UDP = bytes([0x60, 0, 0, 0, 0, 8, 17, 64]) + THERE.packed + HERE.packed + bytes([0, 1, 0, 2, 0, 8, 0, 0])
PLAIN = bytes(10)


class Received(NamedTuple):
    peer: NodePublic
    packets: list[Any]


class FakeDevice:
    """What came out of tunnels, and what was to go into one."""

    def __init__(self) -> None:
        self.received: deque[Received] = deque()
        self.sent: list[bytes] = []

    def handle_packets(self, packets: list[Any], now: float, unix_now: float) -> None:
        self.sent += map(bytes, packets)

    def poll_packets(self) -> Received | None:
        return self.received.popleft() if self.received else None

    def poll_event(self) -> None:
        return None

    poll_transmit = poll_event


def plane(*, takes: bool = True) -> tuple[DataPlane, FakeDevice, Counters]:
    device, counters = FakeDevice(), Counters()
    faked: Any = device
    return DataPlane(faked, faked, uso=False, counters=counters, takes_introductions=takes), device, counters


def n_said(data_plane: DataPlane) -> int:
    count = 0
    while data_plane.poll_event() is not None:
        count += 1
    return count


@pytest.mark.parametrize("body", [want_secret(), tell_secret(1, bytes(32)), b"x"])
def test_what_daemons_say_cannot_come_from_a_host(body: bytes) -> None:
    data_plane, device, counters = plane()
    data_plane.handle_tun(PLAIN, encode_packet(HERE, THERE, body), 0.0, 0.0)
    assert device.sent == []
    assert counters["tun.drop.introduction"] == 1
    data_plane.handle_tun(PLAIN, UDP, 0.0, 0.0)
    assert device.sent == [UDP]


def test_a_plain_wireguard_carries_that_next_header_as_any_other() -> None:
    data_plane, device, _ = plane(takes=False)
    data_plane.handle_tun(PLAIN, QUESTION, 0.0, 0.0)
    assert device.sent == [QUESTION]


@pytest.mark.parametrize("run", [[QUESTION], [UDP, QUESTION, UDP], [UDP] * 40 + [QUESTION]])
def test_a_peers_word_is_heard_also_at_the_end_of_a_bulk(run: list[bytes]) -> None:
    data_plane, device, _ = plane()
    device.received.append(Received(PEER, run))
    data_plane.drain(0.0, 0.0)
    assert data_plane.poll_event() == SecretWanted(PEER)
    written = b"".join(map(bytes, data_plane.poll_tun() or []))
    assert QUESTION not in written


def test_a_peer_that_says_too_much_is_heard_at_a_bounded_rate_and_others_all_the_same() -> None:
    data_plane, device, counters = plane()
    other = NodePublic(bytes(32))
    for n in range(5000):
        device.received.append(Received(PEER, [QUESTION]))
        data_plane.drain(n / 500, 0.0)
    assert n_said(data_plane) <= INTRODUCTION_BURST + 10 * INTRODUCTION_RATE
    assert counters["engine.drop.introduction_rate"] > 4800
    device.received.append(Received(other, [QUESTION]))
    data_plane.drain(10.0, 0.0)
    assert data_plane.poll_event() == SecretWanted(other)
