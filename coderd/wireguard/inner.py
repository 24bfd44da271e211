"""Inner packets: the destination of one to send, and the checks of one that was decrypted.

Only version, length and addresses of the IP header are read.
"""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from coderd.model import Buffer

IPV4_HEADER = 20
IPV6_HEADER = 40
_FATEFUL = 24
"""Bytes of an IPv6 header up to the end of the source address."""
_FATEFUL_WITH_DESTINATION = 40
"""Bytes of an IPv6 header up to the end of the destination address: the whole header."""

_total_length_v4 = struct.Struct(">2xH").unpack_from
_payload_length_v6 = struct.Struct(">4xH").unpack_from


class Verdict(NamedTuple):
    """Outcome of checking a batch of plaintexts."""

    packets: list[Buffer]
    """Admitted packets without their padding, in order."""
    n_malformed: int
    n_foreign: int
    """Packets with a source address that is not the peer's."""
    n_misdirected: int
    """Packets to another address than this node's."""


def destination(packet: Buffer) -> bytes | None:
    """Returns the packed destination address of an IP packet; None if it has no whole IPv4 or IPv6 header."""
    size = len(packet)
    if size >= IPV6_HEADER and packet[0] >> 4 == 6:
        return bytes(packet[24:40])
    if size >= IPV4_HEADER and packet[0] >> 4 == 4:
        return bytes(packet[16:20])
    return None


def admit(
    plaintexts: Sequence[bytes], is_allowed_source: Callable[[bytes], bool], own_address: bytes | None = None
) -> Verdict:
    """Sorts decrypted packets: removes padding; drops malformed ones, foreign sources and other destinations.

    A packet with the size and the first 24 bytes (40 with ``own_address``) of the one before gets its verdict
    without being parsed: in a bulk transfer that is nearly every packet.

    Args:
        plaintexts: as decrypted; empty ones are keepalives.
        is_allowed_source: returns whether the peer may send from a packed address; not asked again for the
            source that was allowed last.
        own_address: the one packed address that packets may be for; None for any, as in plain WireGuard,
            where the host may be a router.
    """
    packets: list[Buffer] = []
    n_malformed = n_foreign = n_misdirected = 0
    size, head, length, is_allowed, allowed = -1, b"", 0, False, b""
    is_ours = True
    fateful = _FATEFUL if own_address is None else _FATEFUL_WITH_DESTINATION
    for packet in plaintexts:
        if len(packet) != size or packet[:fateful] != head:
            size, head = len(packet), packet[:fateful]
            length, source = _outline(packet)
            is_allowed = length > 0 and (source == allowed or is_allowed_source(source))
            allowed = source if is_allowed else allowed
            is_ours = own_address is None or destination(packet) == own_address
        if is_allowed and is_ours:
            packets.append(packet if length == size else packet[:length])
        else:
            n_malformed += size > 0 and not length
            n_foreign += length > 0 and not is_allowed
            n_misdirected += is_allowed
    return Verdict(packets, n_malformed, n_foreign, n_misdirected)


def _outline(packet: bytes) -> tuple[int, bytes]:
    """Returns a packet's length by its header, and its packed source; length 0 for no whole IP packet."""
    size = len(packet)
    version = packet[0] >> 4 if size >= IPV4_HEADER else 0
    if version == 6 and size >= IPV6_HEADER:
        length, source = _payload_length_v6(packet)[0] + IPV6_HEADER, packet[8:24]
    elif version == 4:
        length, source = _total_length_v4(packet)[0], packet[12:16]
    else:
        return 0, b""
    return (length, source) if IPV4_HEADER <= length <= size else (0, b"")
