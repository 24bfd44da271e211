"""A device's secret reaches the workspace whatever is lost, and nothing else is taken for it."""

import random
from dataclasses import replace

import pytest

from coderd.control.messages import DialTarget, Ready
from coderd.engine.introduction import (
    SecretAcknowledged,
    SecretTold,
    SecretWanted,
    encode_packet,
    parse_introduction,
)
from coderd.engine.tunnel_secrets import REPEATS, TunnelSecrets
from coderd.model.keys import NodePublic
from coderd.model.netmap import Capability, NodeKind, Peer
from coderd.model.paths import PathKind
from coderd.speedtest.plan import Direction, StartRequest
from tests.shell.daemon_world import make_peer

DEV = replace(make_peer("ann/dev", 1), capabilities=frozenset({Capability.TUNNEL_SECRET}))
PHONE = replace(make_peer("ann/phone", 2, kind=NodeKind.DEVICE), capabilities=DEV.capabilities)
OLD_PHONE = replace(PHONE, capabilities=frozenset())


class Pair:
    """A phone and a workspace, and a wire between them that loses some of what they say."""

    def __init__(self, seed: int = 1, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.phone = TunnelSecrets(self.rng.randbytes, 1)
        self.dev = TunnelSecrets(self.rng.randbytes, 1)
        self.n_told = 0

    def run(self, began: float, seconds: float) -> None:
        for tick in range(round(seconds * 20)):
            now = began + tick / 20
            for _, body in self.phone.poll(now):
                self.n_told += 1
                self.tell_dev(body, now)

    def tell_dev(self, body: bytes, now: float) -> None:
        if self.rng.random() >= self.loss:
            match parse_introduction(PHONE.node_key, encode_packet(PHONE.address, DEV.address, body)):
                case SecretTold() as event:
                    self.tell_phone(self.dev.handle_told(event), now)

    def tell_phone(self, body: bytes, now: float) -> None:
        if self.rng.random() >= self.loss:
            match parse_introduction(DEV.node_key, encode_packet(DEV.address, PHONE.address, body)):
                case SecretAcknowledged() as event:
                    self.phone.handle_acknowledged(event)
                case SecretWanted():
                    self.phone.handle_wanted(DEV.node_key, now)

    @property
    def is_known(self) -> bool:
        return self.dev.is_shown(PHONE.node_key, self.phone.ours(DEV.node_key))


def test_a_secret_is_told_once_with_each_handshake_where_nothing_is_lost() -> None:
    pair = Pair()
    for began in (0.0, 120.0):
        pair.phone.handle_session(DEV, began)
        pair.run(began, 20)
    assert pair.is_known
    assert pair.n_told == 2
    assert pair.phone.poll_timeout() is None


@pytest.mark.parametrize("seed", range(20))
def test_where_half_is_lost_asking_brings_it_within_seconds(seed: int) -> None:
    pair = Pair(seed, loss=0.5)
    pair.phone.handle_session(DEV, 0.0)
    for tick in range(40):
        now = tick / 20
        pair.run(now, 0.05)
        if not pair.is_known and (body := pair.dev.ask(PHONE.node_key, now)) is not None:
            pair.tell_phone(body, now)
    assert pair.is_known


def test_what_is_never_acknowledged_is_told_a_few_times_and_then_with_the_next_handshake() -> None:
    pair = Pair(loss=1.0)
    pair.phone.handle_session(DEV, 0.0)
    pair.run(0.0, 100)
    assert pair.n_told == len(REPEATS) + 1
    pair.phone.handle_session(replace(DEV, capabilities=frozenset()), 120.0)
    pair.run(120.0, 100)
    assert pair.n_told == len(REPEATS) + 2, "a workspace of an earlier release cannot acknowledge"


def test_each_pair_has_another_secret_and_each_start() -> None:
    pair = Pair()
    ours = [side.ours(peer.node_key) for side in (pair.phone, pair.dev) for peer in (DEV, PHONE)]
    assert len(set(ours)) == 4
    assert all(len(secret) == 32 for secret in ours)


def test_it_is_demanded_of_who_told_one_and_of_who_can() -> None:
    pair = Pair()
    assert pair.dev.demands(PHONE)
    assert not pair.dev.demands(OLD_PHONE)
    assert not pair.dev.is_shown(PHONE.node_key, b"")
    pair.dev.handle_told(SecretTold(PHONE.node_key, 1, b"s" * 32))
    assert pair.dev.demands(OLD_PHONE), "a server that says that it cannot changes nothing"
    assert pair.dev.is_shown(PHONE.node_key, b"s" * 32)
    assert not pair.dev.is_shown(PHONE.node_key, b"t" * 32)


def peers(*found: Peer) -> dict[NodePublic, Peer]:
    return {peer.node_key: peer for peer in found}


def test_who_restarts_has_another_and_who_is_gone_none() -> None:
    dev, told = Pair().dev, SecretTold(PHONE.node_key, 2, b"s" * 32)
    dev.handle_told(told)
    dev.set_peers(peers(replace(OLD_PHONE, generation=2)), peers(OLD_PHONE))
    assert dev.demands(OLD_PHONE), "it told its new one before the server spoke"
    dev.set_peers(peers(replace(OLD_PHONE, generation=3)), peers(replace(OLD_PHONE, generation=2)))
    assert not dev.demands(OLD_PHONE), "a start of an earlier release tells none"
    dev.handle_told(told)
    dev.set_peers({}, peers(OLD_PHONE))
    assert not dev.demands(OLD_PHONE)


def test_an_answer_to_another_secret_is_none() -> None:
    pair = Pair()
    pair.phone.handle_session(DEV, 0.0)
    pair.phone.handle_acknowledged(SecretAcknowledged(DEV.node_key, bytes(8)))
    assert pair.phone.poll_timeout() is not None


def test_it_is_not_shown_by_what_carries_it() -> None:
    told = SecretTold(PHONE.node_key, 1, b"s" * 32)
    target = DialTarget(name="ann/dev", address="fd60::1", secret="ssss")
    ready = Ready(
        name="ann/dev", address="fd60::1", path=PathKind.DIRECT, via="", latency_ms=1.0, secret="ssss"
    )
    start = StartRequest(2, 10**9, Direction.DOWN, secret="ssss")
    for carrier in (told, target, ready, start):
        assert "ssss" not in f"{carrier} {carrier!r}"
