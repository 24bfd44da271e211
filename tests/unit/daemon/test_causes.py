"""Facts of both ends to causes: which one decides, on whose side, and in which words."""

import msgspec
import pytest

from coderd.daemon.diagnosis.causes import explain
from coderd.model.paths import PathKind
from coderd.netcheck.facts import Facts

EASY = Facts(
    udp=True, nat=True, varies=False, endpoints=2, home="coder", relay=True, mtu=1500, mtu_needed=1340
)
HARD = Facts(udp=True, nat=True, varies=True, relay=True)
NO_UDP = Facts(udp=False, relay=True)
NO_STUN = Facts(udp=None, stun=False, relay=True)
SMALL = Facts(udp=True, relay=True, mtu=1300, mtu_needed=1340)
SWALLOWED = Facts(udp=True, relay=True, mtu=1500, mtu_needed=1340, carries_full=False)
NARROW = Facts(udp=True, relay=True, mtu=1500, mtu_needed=1340, narrow=True)
MASKED = Facts(udp=True, relay=True, server="masked")
CLOSED = Facts(udp=False, relay=True, server="closed")
BLOCKED = Facts(udp=True, relay=True, blocked=True)
BLOCKED_FOR_ALL = Facts(udp=None, stun=False, relay=True, blocked=True)
"""As every node is where the server blocks direct connections: it then offers no STUN either."""


@pytest.mark.parametrize(
    ("this", "peer", "causes"),
    [
        (NO_UDP, EASY, [("no-udp", "this")]),
        (EASY, NO_UDP, [("no-udp", "peer")]),
        (NO_UDP, NO_UDP, [("no-udp", "both")]),
        (HARD, HARD, [("hard-nat", "both")]),
        (HARD, EASY, [("hard-nat", "this")]),
        (EASY, HARD, [("hard-nat", "peer")]),
        (SMALL, EASY, [("small-mtu", "this")]),
        (EASY, SMALL, [("small-mtu", "peer")]),
        (SWALLOWED, EASY, [("small-mtu", "this")]),
        (EASY, SWALLOWED, [("small-mtu", "peer")]),
        (NARROW, EASY, [("small-mtu", "network")]),
        (EASY, NARROW, [("small-mtu", "network")]),
        (SWALLOWED, NARROW, [("small-mtu", "this")]),
        (MASKED, MASKED, [("server-behind-nat", "network")]),
        (MASKED, None, [("server-behind-nat", "network")]),
        (CLOSED, CLOSED, [("server-behind-nat", "network")]),
        (CLOSED, NO_UDP, [("server-behind-nat", "network"), ("no-udp", "peer")]),
        (NO_STUN, NO_STUN, [("no-stun", "network")]),
        (BLOCKED, HARD, [("blocked-by-policy", "network"), ("hard-nat", "peer")]),
        (BLOCKED_FOR_ALL, BLOCKED_FOR_ALL, [("blocked-by-policy", "network")]),
        (NO_UDP, HARD, [("no-udp", "this"), ("hard-nat", "peer")]),
        (SMALL, HARD, [("small-mtu", "this"), ("hard-nat", "peer")]),
        (HARD, None, [("hard-nat", "this")]),
        (EASY, EASY, [("unexplained", "network")]),
        (EASY, None, [("unexplained", "network")]),
    ],
)
def test_the_deciding_cause_of_a_relayed_path_comes_first(
    this: Facts, peer: Facts | None, causes: list[tuple[str, str]]
) -> None:
    found = explain("ann/dev", PathKind.RELAY, this, peer, is_online=True)
    assert [(cause.cause, cause.side) for cause in found] == causes


def test_a_direct_path_has_no_causes_whatever_the_facts() -> None:
    assert explain("ann/dev", PathKind.DIRECT, HARD, HARD, is_online=True) == ()


def test_a_peer_that_does_not_answer_is_offline_or_there_is_no_relay() -> None:
    assert explain("ann/dev", PathKind.NONE, EASY, None, is_online=False)[0].cause == "offline"
    assert explain("ann/dev", PathKind.NONE, Facts(), None, is_online=True)[0].cause == "no-relay"
    assert explain("ann/dev", PathKind.NONE, EASY, None, is_online=True)[0].cause == "no-answer"


def test_a_peer_that_could_not_be_asked_is_said_to_be_so() -> None:
    (cause,) = explain("ann/dev", PathKind.RELAY, EASY, None, is_online=True)
    assert "ann/dev could not be asked" in cause.sentence


def test_random_ports_on_one_side_alone_may_be_searched_for() -> None:
    random = msgspec.structs.replace(HARD, ports="random")
    sequential = msgspec.structs.replace(HARD, ports="sequential")
    fixes = [
        explain("ann/dev", PathKind.RELAY, this, peer, is_online=True)[0].fix
        for this, peer in [(random, EASY), (EASY, random), (sequential, EASY), (random, random)]
    ]
    assert ["--birthday" in fix for fix in fixes] == [True, True, False, False]
