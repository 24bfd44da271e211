"""Disco payloads against vectors made by the upstream encoder."""

import json
from pathlib import Path

import pytest

from coderd.disco import CallMeMaybe, Message, PeerRelayMessage, Ping, Pong, encode_message, parse_message
from coderd.disco.message import MOST_ENDPOINTS
from coderd.model.addresses import parse_addr_port
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePublic

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/disco.json").read_text(encoding="utf-8"))


def message_of(case: dict[str, object]) -> Message:
    """The message that a vector's payload means."""
    payload = bytes.fromhex(str(case["payload"]))
    match case:
        case {"type": "ping", "tx": str(tx), "padding": int(padding)}:
            key = case.get("node_key")
            return Ping(bytes.fromhex(tx), NodePublic(bytes.fromhex(str(key))) if key else None, padding)
        case {"type": "pong", "tx": str(tx), "src": str(src)}:
            return Pong(bytes.fromhex(tx), parse_addr_port(src))
        case {"type": "call_me_maybe", "endpoints": list(endpoints)}:
            return CallMeMaybe(tuple(parse_addr_port(str(endpoint)) for endpoint in endpoints))
        case _:
            return PeerRelayMessage(payload[0], payload[1], payload[2:])


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["name"])
def test_payloads_are_upstreams_byte_for_byte(case: dict[str, object]) -> None:
    payload = bytes.fromhex(str(case["payload"]))
    assert encode_message(message_of(case)) == payload
    assert parse_message(payload) == message_of(case)


@pytest.mark.parametrize("case", VECTORS["parse"], ids=lambda case: case["name"])
def test_odd_payloads_are_read_as_upstream_reads_them(case: dict[str, object]) -> None:
    payload = bytes.fromhex(str(case["payload"]))
    if not case["ok"]:
        with pytest.raises(MalformedPacket):
            parse_message(payload)
        return
    match parse_message(payload):
        case Ping(_, node_key, padding):
            assert (node_key is not None, padding) == (case["has_node_key"], case["padding"])
        case Pong(_, src):
            assert src == parse_addr_port(str(case["src"]))
        case CallMeMaybe(endpoints):
            assert len(endpoints) == case["endpoints"]
        case other:
            pytest.fail(f"unexpected {other}")


def test_a_node_key_of_zeros_is_no_node_key() -> None:
    assert parse_message(b"\x01\x00" + bytes(12) + bytes(32)) == Ping(bytes(12), None, 0)


def test_a_later_version_of_a_pong_is_still_read() -> None:
    payload = bytearray(encode_message(Pong(bytes(12), ("192.0.2.1", 7))))
    payload[1] = 3
    assert parse_message(payload) == Pong(bytes(12), ("192.0.2.1", 7))


def test_a_transaction_id_of_another_size_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        encode_message(Ping(bytes(11)))


def test_no_more_addresses_are_read_of_a_call_than_any_node_has() -> None:
    named = tuple((f"192.0.2.{i % 200 + 1}", 1 + i) for i in range(3000))
    assert parse_message(encode_message(CallMeMaybe(named))) == CallMeMaybe(named[:MOST_ENDPOINTS])
