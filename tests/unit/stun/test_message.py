"""STUN messages against vectors made by the upstream package, and the edges around them."""

import json
from pathlib import Path

import pytest

from coderd.model.addresses import parse_addr_port
from coderd.model.errors import MalformedPacket
from coderd.stun import encode_request, encode_response, is_stun, parse_request, parse_response

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/stun.json").read_text(encoding="utf-8"))
TX = bytes.fromhex(VECTORS["tx"])
GENERIC_CLIENTS = {"no fingerprint", "bare binding request (generic client)"}
"""Upstream's servers ignore these; ours answers every valid Binding request."""


def named(section: str) -> list[object]:
    return [pytest.param(case, id=case["name"]) for case in VECTORS[section]]


def request_with(*attributes: bytes) -> bytes:
    body = b"".join(attributes)
    return b"\x00\x01" + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + TX + body


@pytest.mark.parametrize("case", named("is_stun"))
def test_stun_is_recognised(case: dict[str, object]) -> None:
    assert is_stun(bytes.fromhex(str(case["packet"]))) is case["is_stun"]


def test_a_request_has_the_bytes_that_upstream_servers_accept() -> None:
    assert encode_request(TX).hex() == VECTORS["request"]
    assert encode_request(bytes(12)).hex() == VECTORS["request_zero_tx"]


@pytest.mark.parametrize("case", named("parse_request"))
def test_requests_are_read_as_upstream_reads_them_save_for_generic_clients(case: dict[str, object]) -> None:
    packet = bytes.fromhex(str(case["packet"]))
    if case["ok"] or case["name"] in GENERIC_CLIENTS:
        assert parse_request(packet) == TX
    else:
        with pytest.raises(MalformedPacket):
            parse_request(packet)


@pytest.mark.parametrize("case", named("responses"))
def test_responses_read_back_and_answer_mapped_clients_as_ipv4(case: dict[str, str]) -> None:
    ip, _, port = case["addr"].rpartition(":")
    addr = (ip.strip("[]"), int(port))
    parsed = parse_addr_port(case["parsed"])
    encoded = encode_response(TX, addr)
    assert parse_response(encoded) == (TX, parsed)
    assert parse_response(bytes.fromhex(case["packet"])) == (TX, parsed)
    if case["name"] != "ipv4-mapped":  # upstream answers family 2 there, and clients have to undo it
        assert encoded.hex() == case["packet"]
    else:
        assert encoded == encode_response(TX, parsed)


@pytest.mark.parametrize("case", named("parse_response"))
def test_responses_of_other_software_are_read(case: dict[str, str]) -> None:
    packet = bytes.fromhex(case["packet"])
    if case["ok"]:
        assert parse_response(packet) == (bytes.fromhex(case["tx"]), parse_addr_port(case["addr"]))
    else:
        with pytest.raises(MalformedPacket):
            parse_response(packet)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case["from"]) for case in VECTORS["server_replies"]["cases"] if case.get("reply")],
)
def test_replies_of_a_running_upstream_server_name_the_client(case: dict[str, str]) -> None:
    assert parse_response(bytes.fromhex(case["reply"])) == (TX, parse_addr_port(case["from"]))


def test_a_request_followed_by_stray_bytes_gets_no_answer() -> None:
    with pytest.raises(MalformedPacket):
        parse_request(encode_request(TX) + bytes(4))


def test_a_request_that_asks_for_another_source_gets_no_plain_answer() -> None:
    change_request = bytes.fromhex("0003000400000006")
    with pytest.raises(MalformedPacket, match="more than a plain answer"):
        parse_request(request_with(change_request))


def test_a_fingerprint_must_come_last() -> None:
    request = encode_request(TX)
    moved = request[:20] + request[32:40] + request[20:32]
    with pytest.raises(MalformedPacket, match="fingerprint"):
        parse_request(moved)


def test_an_unknown_optional_attribute_does_not_matter() -> None:
    assert parse_request(request_with(bytes.fromhex("8fff000301020300"))) == TX


def test_a_scoped_link_local_client_is_answered_without_its_scope() -> None:
    assert parse_response(encode_response(TX, ("fe80::1%3", 9))) == (TX, ("fe80::1", 9))


def test_the_last_xored_address_wins() -> None:
    first, second = encode_response(TX, ("192.0.2.1", 1)), encode_response(TX, ("192.0.2.2", 2))
    both = first[:2] + bytes.fromhex("0018") + first[4:] + second[20:]
    assert parse_response(both) == (TX, ("192.0.2.2", 2))


@pytest.mark.parametrize("tx", [b"", bytes(11), bytes(13)])
def test_a_transaction_id_of_another_size_is_a_mistake_of_ours(tx: bytes) -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        encode_request(tx)
    with pytest.raises(ValueError, match="12 bytes"):
        encode_response(tx, ("192.0.2.1", 1))


def test_a_view_of_a_receive_buffer_is_read_as_well_as_bytes() -> None:
    view = memoryview(bytearray(encode_request(TX)))
    assert is_stun(view)
    assert parse_request(view) == TX
