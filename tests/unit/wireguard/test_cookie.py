"""MAC1, MAC2 and cookie replies."""

from typing import Any

import pytest

from coderd.model.keys import NodePublic
from coderd.wireguard.cookie import CookieChecker, MacStamp
from coderd.wireguard.message import CookieReply, parse_handshake
from coderd.wireguard.timers import COOKIE_LIFETIME
from tests.unit.wireguard.support import SCENARIOS, ScriptedRandom, unhex


@pytest.fixture(params=SCENARIOS, ids=lambda scenario: scenario["name"])
def scenario(request: pytest.FixtureRequest) -> dict[str, Any]:
    chosen: dict[str, Any] = request.param
    return chosen


def party(scenario: dict[str, Any], who: str) -> NodePublic:
    return NodePublic(unhex(scenario["inputs"][f"{who}_static_public"]))


def reply_of(data: bytes) -> CookieReply:
    reply = parse_handshake(data)
    assert isinstance(reply, CookieReply)
    return reply


@pytest.mark.parametrize(
    ("part", "answered", "replier", "other"),
    [
        ("to_initiation", "initiation", "responder", "initiator"),
        ("to_response", "response", "initiator", "responder"),
    ],
)
def test_a_cookie_reply_is_the_vectors(
    scenario: dict[str, Any], part: str, answered: str, replier: str, other: str
) -> None:
    case = scenario["cookie"][part]
    message = unhex(scenario[answered]["packet"])
    rng = ScriptedRandom(unhex(case["secret"]), unhex(case["nonce"]))
    checker = CookieChecker(party(scenario, replier), rng)
    assert checker.has_valid_mac1(message)
    made = checker.create_reply(message, unhex(case["source_address_bytes"]), 0.0)
    assert made.hex() == case["packet"]
    stamp = MacStamp(party(scenario, replier))
    assert stamp.stamp(message[:-32], 0.0) == message
    assert stamp.handle_reply(reply_of(made), 0.0)


def cookie_exchange(scenario: dict[str, Any]) -> tuple[MacStamp, CookieChecker, bytes, bytes]:
    case = scenario["cookie"]["to_initiation"]
    first = unhex(scenario["initiation"]["packet"])
    stamp = MacStamp(party(scenario, "responder"))
    stamp.stamp(first[:-32], 0.0)
    checker = CookieChecker(
        party(scenario, "responder"), ScriptedRandom(unhex(case["secret"]), unhex(case["nonce"]))
    )
    address = unhex(case["source_address_bytes"])
    assert stamp.handle_reply(reply_of(checker.create_reply(first, address, 0.0)), 0.0)
    second = unhex(scenario["cookie"]["initiation_with_mac2"]["packet"])
    return stamp, checker, address, second


def test_the_next_message_carries_mac2(scenario: dict[str, Any]) -> None:
    stamp, checker, address, second = cookie_exchange(scenario)
    assert stamp.stamp(second[:-32], 5.0) == second
    assert checker.has_valid_mac2(second, address, 5.0)


def test_a_cookie_counts_only_for_its_own_address_and_port(scenario: dict[str, Any]) -> None:
    _, checker, address, second = cookie_exchange(scenario)
    assert not checker.has_valid_mac2(second, address[:-1] + b"\x00", 5.0)
    assert not checker.has_valid_mac2(second, b"\x00" + address[1:], 5.0)


def test_a_cookie_dies_after_two_minutes_at_both_ends(scenario: dict[str, Any]) -> None:
    stamp, checker, address, second = cookie_exchange(scenario)
    assert stamp.stamp(second[:-32], COOKIE_LIFETIME - 0.1) == second
    assert stamp.stamp(second[:-32], COOKIE_LIFETIME)[-16:] == bytes(16)
    assert checker.has_valid_mac2(second, address, COOKIE_LIFETIME)
    assert not checker.has_valid_mac2(second, address, COOKIE_LIFETIME + 0.1)


def test_without_a_secret_no_mac2_is_valid(scenario: dict[str, Any]) -> None:
    checker = CookieChecker(party(scenario, "responder"), ScriptedRandom())
    second = unhex(scenario["cookie"]["initiation_with_mac2"]["packet"])
    assert not checker.has_valid_mac2(second, b"address", 0.0)


def test_a_reply_to_another_message_is_refused(scenario: dict[str, Any]) -> None:
    stamp, checker, address, second = cookie_exchange(scenario)
    reply = reply_of(checker.create_reply(second, address, 6.0))
    assert not stamp.handle_reply(reply, 6.0)
    assert not MacStamp(party(scenario, "responder")).handle_reply(reply, 6.0)
