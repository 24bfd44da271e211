"""STUN Binding messages (RFC 5389), in the form that Tailscale's servers and clients exchange them.

```
offset size
0      2    type: 0x0001 Binding request, 0x0101 Binding success response
2      2    length of everything after the header
4      4    magic cookie 0x2112a442
8      12   transaction id
20     ...  attributes: type (2) | length (2) | value | zeros up to a multiple of 4; all big-endian
```

A question is a request with the attributes of RFC 5780, by which a NAT's behaviour and a path's size are
found out: CHANGE-REQUEST wants the answer from another port or address of the server, PADDING an answer as
large as the request.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple
from zlib import crc32

from coderd.model import Buffer
from coderd.model.addresses import AddrPort, canonical_ip
from coderd.model.errors import MalformedPacket

TX_SIZE = 12
HEADER_SIZE = 20

_COOKIE = b"\x21\x12\xa4\x42"
_REQUEST = b"\x00\x01"
_SUCCESS = b"\x01\x01"

_MAPPED_ADDRESS = 0x0001
_CHANGE_REQUEST = 0x0003
_PADDING = 0x0026
_RESPONSE_ORIGIN = 0x802B
_OTHER_ADDRESS = 0x802C
_XOR_MAPPED_ADDRESS = 0x0020
_XOR_MAPPED_ADDRESS_OLD = 0x8020
"""The number that the draft had; some servers still use it."""
_SOFTWARE = 0x8022
_FINGERPRINT = 0x8028
_FIRST_OPTIONAL = 0x8000
"""A reader may skip attributes from here on; below, it must understand them."""

_FINGERPRINT_XOR = 0x5354554E
_PORT_XOR = 0x2112
_IPV4_FAMILY = 1
_IPV6_FAMILY = 2

_HEAD = struct.Struct(">2sH4s12s")
_ATTRIBUTE = struct.Struct(">HH")
_CRC = struct.Struct(">I")
_ADDRESS = struct.Struct(">xBH")
_FLAGS = struct.Struct(">I")
_CHANGE_IP, _CHANGE_PORT = 0x4, 0x2

_SOFTWARE_ATTRIBUTE = _ATTRIBUTE.pack(_SOFTWARE, 8) + b"tailnode"
"""Upstream's servers answer only clients that name this software.

A fast-path server reads it at this fixed offset.
"""
_FINGERPRINT_SIZE = _ATTRIBUTE.size + _CRC.size


class Question(NamedTuple):
    """A Binding request, with what it wants to know beyond the sender's address.

    Attributes:
        tx: its transaction id.
        change_ip: the answer shall come from another address of the server,
        change_port: or from another port.
        is_extended: it asks in the words of RFC 5780, so that the answer may say which those are.
        is_padded: the answer shall be as large as the question.
    """

    tx: bytes
    change_ip: bool = False
    change_port: bool = False
    is_extended: bool = False
    is_padded: bool = False


class Answer(NamedTuple):
    """What a success response says.

    Attributes:
        tx: of the request.
        mapped: the sender of the request, as the server saw it.
        origin: whence the server sent the response, by its own account; None where it does not say.
        other: its other address and port; None likewise.
    """

    tx: bytes
    mapped: AddrPort
    origin: AddrPort | None = None
    other: AddrPort | None = None


def is_stun(datagram: Buffer) -> bool:
    """Returns whether a datagram is STUN: two zero bits and the magic cookie (RFC 8489 §5)."""
    return len(datagram) >= HEADER_SIZE and datagram[0] < 0x40 and datagram[4:8] == _COOKIE


def encode_request(tx: bytes) -> bytes:
    """Encodes a Binding request of 40 bytes: SOFTWARE, then FINGERPRINT.

    Args:
        tx: 12 random bytes; every transmission has its own.
    """
    return _request(tx, b"")


def encode_question(question: Question, *, size: int = 0) -> bytes:
    """Encodes a request with RFC 5780's attributes.

    Args:
        question: what to ask.
        size: bytes to pad it to, rounded up to a multiple of 4, where it ``is_padded``.
    """
    flags = _CHANGE_IP * question.change_ip | _CHANGE_PORT * question.change_port
    asked = _ATTRIBUTE.pack(_CHANGE_REQUEST, _FLAGS.size) + _FLAGS.pack(flags)
    missing = size - len(_request(question.tx, asked)) - _ATTRIBUTE.size
    return _request(question.tx, asked + (_padding(missing) if question.is_padded else b""))


def _request(tx: bytes, asked: bytes) -> bytes:
    _require_tx(tx)
    length = len(_SOFTWARE_ATTRIBUTE) + len(asked) + _FINGERPRINT_SIZE
    body = _HEAD.pack(_REQUEST, length, _COOKIE, tx) + _SOFTWARE_ATTRIBUTE + asked
    return body + _ATTRIBUTE.pack(_FINGERPRINT, _CRC.size) + _fingerprint(body)


def _padding(n_bytes: int) -> bytes:
    n_bytes = max(0, n_bytes + 3 & ~3)
    return _ATTRIBUTE.pack(_PADDING, n_bytes) + bytes(n_bytes)


def parse_request(datagram: Buffer) -> bytes:
    """Reads any valid Binding request, from whatever software.

    A fingerprint is optional, but must be right if present. A question beyond the plain one is refused: a
    plain answer would tell its sender something untrue.

    Returns: the transaction id.

    Raises:
        MalformedPacket: not such a request; it gets no answer.
    """
    question = parse_question(datagram)
    if question.is_extended:
        raise MalformedPacket("STUN request for more than a plain answer")
    return question.tx


def parse_question(datagram: Buffer) -> Question:
    """Reads any valid Binding request, those of RFC 5780 among them. Raises MalformedPacket."""
    data = bytes(datagram)
    if not is_stun(data) or data[:2] != _REQUEST:
        raise MalformedPacket("not a STUN Binding request")
    _, length, _, tx = _HEAD.unpack_from(data)
    if length != len(data) - HEADER_SIZE:
        raise MalformedPacket("STUN length field disagrees with the datagram's size")
    flags, is_extended, is_padded = 0, False, False
    for kind, value, end in _attributes(data):
        if kind == _CHANGE_REQUEST and len(value) == _FLAGS.size:
            (flags,), is_extended = _FLAGS.unpack(value), True
        elif kind == _PADDING:
            is_extended = is_padded = True
        elif kind < _FIRST_OPTIONAL:
            raise MalformedPacket(f"STUN request needs attribute 0x{kind:04x}, which is not spoken here")
        if kind == _FINGERPRINT and (
            end != len(data) or value != _fingerprint(data[: end - _FINGERPRINT_SIZE])
        ):
            raise MalformedPacket("STUN fingerprint is wrong")
    return Question(bytes(tx), bool(flags & _CHANGE_IP), bool(flags & _CHANGE_PORT), is_extended, is_padded)


def encode_response(tx: bytes, mapped: AddrPort) -> bytes:
    """Encodes a success response: 32 bytes for an IPv4 client, 44 for an IPv6 one.

    Args:
        tx: the request's transaction id.
        mapped: where the request came from; an IPv4-mapped address is answered as IPv4.
    """
    _require_tx(tx)
    packed = ip_address(canonical_ip(mapped[0].partition("%")[0])).packed
    family = _IPV4_FAMILY if len(packed) == 4 else _IPV6_FAMILY
    value = _ADDRESS.pack(family, mapped[1] ^ _PORT_XOR) + _xor(packed, _COOKIE + tx)
    attribute = _ATTRIBUTE.pack(_XOR_MAPPED_ADDRESS, len(value)) + value
    return _HEAD.pack(_SUCCESS, len(attribute), _COOKIE, tx) + attribute


def encode_answer(answer: Answer, *, size: int = 0) -> bytes:
    """Encodes a success response with RFC 5780's attributes, padded to at least ``size`` bytes."""
    plain = encode_response(answer.tx, answer.mapped)
    places = ((_RESPONSE_ORIGIN, answer.origin), (_OTHER_ADDRESS, answer.other))
    attributes = plain[HEADER_SIZE:] + b"".join(
        _place(kind, addr) for kind, addr in places if addr is not None
    )
    if (missing := size - HEADER_SIZE - len(attributes) - _ATTRIBUTE.size) >= 0:
        attributes += _padding(missing & ~3)
    return _HEAD.pack(_SUCCESS, len(attributes), _COOKIE, answer.tx) + attributes


def _place(kind: int, addr: AddrPort) -> bytes:
    packed = ip_address(addr[0].partition("%")[0]).packed
    family = _IPV4_FAMILY if len(packed) == 4 else _IPV6_FAMILY
    return _ATTRIBUTE.pack(kind, _ADDRESS.size + len(packed)) + _ADDRESS.pack(family, addr[1]) + packed


def parse_response(datagram: Buffer) -> tuple[bytes, AddrPort]:
    """Reads a success response; who sent it does not matter, the transaction id does.

    Returns: the transaction id, and the address that the server saw: XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS.

    Raises:
        MalformedPacket: not a success response, broken attributes, or no address in it.
    """
    answer = parse_answer(datagram)
    return answer.tx, answer.mapped


def parse_answer(datagram: Buffer) -> Answer:
    """Reads all that a success response says. Raises MalformedPacket as ``parse_response``."""
    data = bytes(datagram)
    if not is_stun(data) or data[:2] != _SUCCESS:
        raise MalformedPacket("not a STUN success response")
    _, length, _, tx = _HEAD.unpack_from(data)
    if length > len(data) - HEADER_SIZE:
        raise MalformedPacket("STUN response is cut short")
    mapped: AddrPort | None = None
    fallback: AddrPort | None = None
    places: dict[int, AddrPort] = {}
    for kind, value, _ in _attributes(data[: HEADER_SIZE + length]):
        if kind in (_XOR_MAPPED_ADDRESS, _XOR_MAPPED_ADDRESS_OLD):
            mapped = _parse_address(value, _PORT_XOR, _COOKIE + tx)
        elif kind == _MAPPED_ADDRESS:
            fallback = _parse_address(value, 0, bytes(16))
        elif kind in (_RESPONSE_ORIGIN, _OTHER_ADDRESS):
            with suppress(MalformedPacket):  # beside the point: an answer is good without them
                places[kind] = _parse_address(value, 0, bytes(16))
    if (found := mapped or fallback) is None:
        raise MalformedPacket("STUN response without an address")
    return Answer(bytes(tx), found, places.get(_RESPONSE_ORIGIN), places.get(_OTHER_ADDRESS))


def _require_tx(tx: bytes) -> None:
    if len(tx) != TX_SIZE:
        raise ValueError(f"a STUN transaction id has {TX_SIZE} bytes, not {len(tx)}")


def _fingerprint(covered: bytes) -> bytes:
    """The CRC is taken over everything before the attribute; the header's length already counts it."""
    return _CRC.pack(crc32(covered) ^ _FINGERPRINT_XOR)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yields (type, value, offset behind the padding) of every attribute after the header."""
    offset = HEADER_SIZE
    while offset < len(data):
        if len(data) - offset < _ATTRIBUTE.size:
            raise MalformedPacket("STUN attribute is cut short")
        kind, size = _ATTRIBUTE.unpack_from(data, offset)
        start = offset + _ATTRIBUTE.size
        offset = start + (size + 3 & ~3)
        if offset > len(data):
            raise MalformedPacket("STUN attribute overruns its message")
        yield kind, data[start : start + size], offset


def _parse_address(value: bytes, port_xor: int, address_xor: bytes) -> AddrPort:
    if len(value) < _ADDRESS.size:
        raise MalformedPacket("STUN address is cut short")
    family, port = _ADDRESS.unpack_from(value)
    size = {_IPV4_FAMILY: 4, _IPV6_FAMILY: 16}.get(family)
    packed = value[_ADDRESS.size :][:size]
    if size is None or len(packed) < size:
        raise MalformedPacket("STUN address of unknown family, or cut short")
    packed = _xor(packed, address_xor)
    address = IPv4Address(packed) if size == 4 else IPv6Address(packed)
    return (canonical_ip(str(address)), port ^ port_xor)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=False))
