"""STUN parsers are total, and what is encoded reads back."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.model.addresses import AddrPort
from coderd.model.errors import MalformedPacket
from coderd.stun import (
    Answer,
    Question,
    encode_answer,
    encode_question,
    encode_request,
    encode_response,
    is_stun,
    parse_answer,
    parse_question,
    parse_request,
    parse_response,
)

txs = st.binary(min_size=12, max_size=12)
ports = st.integers(0, 65535)
ipv4 = st.tuples(st.ip_addresses(v=4).map(str), ports)
ipv6 = st.tuples(
    st.ip_addresses(v=6).filter(lambda ip: ipaddress.IPv6Address(int(ip)).ipv4_mapped is None).map(str), ports
)
heads = st.sampled_from([b"\x00\x01", b"\x01\x01", b"\x01\x11"])
attributes = st.lists(
    st.tuples(
        st.sampled_from([0x0001, 0x0003, 0x0020, 0x0026, 0x8020, 0x8022, 0x8028, 0x802B, 0x802C])
        | st.integers(0, 0xFFFF),
        st.integers(0, 40),
        st.binary(max_size=24),
    ),
    max_size=4,
)


@st.composite
def nearly_stun(draw: st.DrawFn) -> bytes:
    """Messages with a good header, whose lengths may lie."""
    body = b"".join(
        kind.to_bytes(2, "big") + size.to_bytes(2, "big") + value for kind, size, value in draw(attributes)
    )
    length = draw(st.just(len(body)) | st.integers(0, 100))
    return draw(heads) + length.to_bytes(2, "big") + b"\x21\x12\xa4\x42" + draw(txs) + body


@given(st.binary(max_size=100) | nearly_stun())
def test_parsers_raise_nothing_but_malformed_packet(datagram: bytes) -> None:
    for parse in (parse_request, parse_question, parse_response, parse_answer):
        try:
            parse(datagram)
        except MalformedPacket:
            continue
        assert is_stun(datagram)


@given(txs)
def test_requests_read_back(tx: bytes) -> None:
    assert parse_request(encode_request(tx)) == tx


@given(txs, st.booleans(), st.booleans(), st.none() | st.integers(0, 1500))
def test_questions_read_back_as_large_as_they_were_asked_to_be(
    tx: bytes, change_ip: bool, change_port: bool, size: int | None
) -> None:
    question = Question(tx, change_ip, change_port, is_extended=True, is_padded=size is not None)
    datagram = encode_question(question, size=size or 0)
    assert parse_question(datagram) == question
    if size is not None and size >= 56:
        assert size <= len(datagram) < size + 4


@given(txs, ipv4 | ipv6, ipv4 | ipv6, ipv4 | ipv6, st.integers(0, 375))
def test_answers_read_back(
    tx: bytes, mapped: AddrPort, origin: AddrPort, other: AddrPort, n_words: int
) -> None:
    answer = Answer(tx, mapped, origin, other)
    datagram = encode_answer(answer, size=4 * n_words)
    assert parse_answer(datagram) == answer
    assert parse_response(datagram) == (tx, mapped)
    if 4 * n_words >= 128:
        assert len(datagram) == 4 * n_words


@given(txs, ipv4 | ipv6)
def test_responses_read_back(tx: bytes, mapped: AddrPort) -> None:
    assert parse_response(encode_response(tx, mapped)) == (tx, mapped)


@given(txs, st.integers(0, 31) | st.integers(34, 39), st.integers(1, 255))
def test_a_request_with_any_byte_but_the_fingerprints_type_changed_is_malformed(
    tx: bytes, at: int, change: int
) -> None:
    request = bytearray(encode_request(tx))
    request[at] ^= change
    with pytest.raises(MalformedPacket):
        parse_request(request)


@given(txs, ipv4 | ipv6, st.data())
def test_a_response_cut_anywhere_is_malformed(tx: bytes, mapped: AddrPort, data: st.DataObject) -> None:
    response = encode_response(tx, mapped)
    size = data.draw(st.integers(0, len(response) - 1))
    with pytest.raises(MalformedPacket):
        parse_response(response[:size])
