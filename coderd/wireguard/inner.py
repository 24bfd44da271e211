"""Inner packets: where one goes, and what one that came out of a tunnel must look like.

Only versions, lengths and addresses of the IP header are read here; everything above belongs to other layers.
"""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from coderd.model import Buffer

IPV4_HEADER = 20
IPV6_HEADER = 40

_total_length_v4 = struct.Struct(">2xH").unpack_from
_payload_length_v6 = struct.Struct(">4xH").unpack_from


class Verdict(NamedTuple):
    """What came of a batch of plaintexts."""

    packets: list[Buffer]
    """Good ones, cut to their own length, in order."""
    n_keepalives: int
    n_malformed: int
    n_foreign: int
    """Their source address is not the peer's."""


def destination(packet: Buffer) -> bytes | None:
    """The packed destination address; None for what is not an IP packet with its whole header."""
    size = len(packet)
    if size >= IPV6_HEADER and packet[0] >> 4 == 6:
        return bytes(packet[24:40])
    if size >= IPV4_HEADER and packet[0] >> 4 == 4:
        return bytes(packet[16:20])
    return None


def admit(plaintexts: Sequence[bytes], is_allowed_source: Callable[[bytes], bool]) -> Verdict:
    """Sorts decrypted packets: cuts padding off, drops what is no IP packet or claims another's address.

    Args:
        plaintexts: as decrypted; empty ones are keepalives.
        is_allowed_source: whether the peer may send from a packed address; asked once per run of equal sources.
    """
    packets: list[Buffer] = []
    n_keepalives = n_malformed = n_foreign = 0
    allowed = b""
    for packet in plaintexts:
        size = len(packet)
        version = packet[0] >> 4 if size >= IPV4_HEADER else 0
        if version == 6 and size >= IPV6_HEADER:
            length = _payload_length_v6(packet)[0] + IPV6_HEADER
            source = packet[8:24]
        elif version == 4:
            length = _total_length_v4(packet)[0]
            source = packet[12:16]
        else:
            length = source = None
        if length is None or source is None or not IPV4_HEADER <= length <= size:
            n_keepalives += not size
            n_malformed += size > 0
        elif source == allowed or is_allowed_source(source):
            allowed = source
            packets.append(packet if length == size else packet[:length])
        else:
            n_foreign += 1
    return Verdict(packets, n_keepalives, n_malformed, n_foreign)
