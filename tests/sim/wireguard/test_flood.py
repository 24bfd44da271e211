"""A hundred thousand initiations in one virtual second, while two peers go on talking."""

import random
from collections import Counter
from functools import partial

import pytest

from coderd.wireguard import HandshakeCompleted
from coderd.wireguard.cookie import MacStamp
from coderd.wireguard.message import COOKIE_REPLY_SIZE, Initiation
from tests.sim.wireguard.net import Net
from tests.unit.wireguard.support import Source, take_transmits

N_INITIATIONS = 100_000
FLOODER = Source(b"\xc6\x33\x64\x07\x10\x01")

ENDS = (
    "wireguard.cookie_replies_sent",
    "wireguard.drop.handshake_queue_full",
    "wireguard.drop.handshake_rate",
    "wireguard.drop.handshake_refused",
)
"""What an initiation with a true MAC1 and nothing else true can come to."""


def initiations(rng: random.Random, stamp: MacStamp, n: int) -> list[bytes]:
    """Half of them know the receiver's public key, none of them anything else."""
    made = []
    for number in range(n):
        message = Initiation(number, rng.randbytes(32), rng.randbytes(48), rng.randbytes(28)).encode()
        made.append(stamp.stamp(message, 0.0) if number % 2 else message + rng.randbytes(32))
    return made


@pytest.mark.slow
def test_a_session_survives_a_flood_of_initiations_and_every_one_of_them_is_accounted_for() -> None:
    net = Net()
    net.send("a", 0)
    net.run_until(1.0)
    device = net.b.device
    before = Counter(device._counters)
    flood = initiations(random.Random(1), MacStamp(net.b.key.public()), N_INITIATIONS)
    answers: list[int] = []

    def wave(number: int) -> None:
        """A twentieth of the flood, in reads of 64 as a socket would give them; a drain after every fourth."""
        part = flood[number * 5000 : (number + 1) * 5000]
        for at in range(0, len(part), 64):
            device.handle_datagrams(FLOODER, part[at : at + 64], net.now, net.unix)
            if at % 256 == 0:
                for transmit in take_transmits(device):
                    assert transmit.to == FLOODER
                    answers.extend(map(len, transmit.datagrams))

    for number in range(20):
        net.at(1.0 + number / 20, partial(wave, number))
    for number in range(100):
        net.at(1.0 + number / 100 + 0.001, partial(net.send, "a", 1000 + number))
        net.at(1.0 + number / 100 + 0.002, partial(net.send, "b", 2000 + number))
    net.run_until(3.0)

    counted = device._counters - before
    assert counted["wireguard.drop.mac1"] == N_INITIATIONS // 2
    assert sum(counted[end] for end in ENDS) == N_INITIATIONS // 2
    assert counted["wireguard.drop.handshake_queue_full"] > 0
    replies = counted["wireguard.cookie_replies_sent"]
    assert len(answers) + replies_on_the_wire(net) == replies
    assert set(answers) == {COOKIE_REPLY_SIZE}
    assert [number for number in net.delivered("b") if number >= 1000] == list(range(1000, 1100))
    assert list(net.delivered("a")) == list(range(2000, 2100))
    assert not device.status(net.now + 1.0).is_under_load
    assert device.status(net.now).n_queued_handshakes == 0


def replies_on_the_wire(net: Net) -> int:
    """Cookie replies that left at a drain of the net's own."""
    return sum(seen.sender == "b" and len(seen.data) == COOKIE_REPLY_SIZE for seen in net.eve)


@pytest.mark.slow
def test_a_peer_gets_its_handshake_through_a_flood_by_a_cookie() -> None:
    net = Net()
    flood = initiations(random.Random(2), MacStamp(net.b.key.public()), 1000)
    device = net.b.device

    def wave() -> None:
        device.handle_datagrams(FLOODER, flood, net.now, net.unix)
        take_transmits(device)

    for number in range(80):
        net.at(number * 0.1, wave)
    net.at(1.0, lambda: net.send("a", 7))
    net.run_until(10.0)
    assert len(net.a.events_of(HandshakeCompleted)) == 1
    assert net.delivered("b") == {7: 1}
