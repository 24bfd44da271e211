"""Seal and open: the vectors, padding, batches."""

from typing import Any

import pytest

from coderd.wireguard.transport import Cipher, make_cipher, open_batch, padding, seal_batch
from tests.unit.wireguard.support import SCENARIOS, VECTORS, unhex

KEY = make_cipher(bytes(range(32)))

CASES = [
    pytest.param(scenario["transport"], case, id=f"{scenario['name']}-{case['name']}")
    for scenario in SCENARIOS
    for case in scenario["transport"]["packets"]
]


def key_of(transport: dict[str, Any], case: dict[str, Any]) -> Cipher:
    side = "send" if case["direction"].startswith("initiator") else "recv"
    return make_cipher(unhex(transport[f"initiator_{side}_key"]))


@pytest.mark.parametrize(("transport", "case"), CASES)
def test_a_packet_seals_to_the_vectors(transport: dict[str, Any], case: dict[str, Any]) -> None:
    inner = unhex(case["inner"])
    sealed = seal_batch(
        key_of(transport, case), case["receiver_index"], case["counter"], [inner], case["mtu"]
    )
    assert [datagram.hex() for datagram in sealed] == [case["packet"]]


@pytest.mark.parametrize(("transport", "case"), CASES)
def test_the_vectors_open_with_their_padding(transport: dict[str, Any], case: dict[str, Any]) -> None:
    counters, plaintexts = open_batch(key_of(transport, case), [memoryview(unhex(case["packet"]))])
    assert counters == [case["counter"]]
    assert plaintexts == [unhex(case["inner"]) + bytes(case["pad_len"])]


@pytest.mark.parametrize("case", VECTORS["padding"], ids=lambda case: f"{case['len']}-at-{case['mtu']}")
def test_padding_follows_the_table(case: dict[str, Any]) -> None:
    assert padding(case["len"], case["mtu"]) == case["pad"]


def test_a_batch_counts_up_and_keeps_its_order() -> None:
    packets = [bytes([n]) * (1420 if n % 3 else 100 + n) for n in range(45)]
    datagrams = seal_batch(KEY, 7, 1000, packets, 1420)
    counters, plaintexts = open_batch(KEY, datagrams)
    assert counters == list(range(1000, 1045))
    assert [text[: len(packet)] for text, packet in zip(plaintexts, packets, strict=True)] == packets


def test_a_forged_datagram_is_left_out_alone() -> None:
    datagrams = seal_batch(KEY, 7, 0, [b"a" * 64, b"b" * 64, b"c" * 64], 1420)
    datagrams[1] = datagrams[1][:-1] + bytes([datagrams[1][-1] ^ 1])
    counters, plaintexts = open_batch(KEY, datagrams)
    assert counters == [0, 2]
    assert [text[:1] for text in plaintexts] == [b"a", b"c"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_buffer_will_do(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    datagrams = seal_batch(KEY, 7, 0, [kind(b"x" * 33)], 1420)
    assert open_batch(KEY, [kind(datagrams[0])])[1] == [b"x" * 33 + bytes(15)]


def test_a_keepalive_is_thirty_two_bytes() -> None:
    assert [len(datagram) for datagram in seal_batch(KEY, 7, 0, [b""], 1420)] == [32]
