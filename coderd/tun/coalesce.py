"""Packets of one batch into super-packets, so that the kernel walks its stack once for many.

What may follow what is decided by comparing header bytes, packet by packet, with the *run* that its connection is in:
a run is the packets, in order, that one super-packet will carry. Two rules make it harmless:

- **Nothing is reordered.** Only the most recent packet of a connection may be joined (connlib's rule), so whatever of a
  connection cannot be merged ends its run; a packet whose connection cannot be read (a fragment, an extension header, ICMP)
  ends all runs. Super-packets stand where their first packet stood.
- **Nothing wrong becomes right.** A super-packet makes the kernel trust what is in it, so the checksums of all packets of
  a run are verified first, in one vectorised pass. Packets that fail are left alone, for the kernel to see and drop: the
  batch is then grouped once more without them, which costs nothing in the ordinary case. Packets that
  merge with nothing are never summed.

Beyond the fields that the kernel's own GRO compares (window and IPv6 flow label among them: the super-packet has only
one), options must be equal byte by byte. Payloads are never copied: an item is a gather list for ``writev``.
"""

import struct
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from coderd.model import Buffer
from coderd.packet.checksum import MODULUS, ones_sum, pseudo_header_sum, split_sums
from coderd.packet.ip import IPV4_HEADER_SIZE, IPV6_HEADER_SIZE, PROTOCOL_TCP, PROTOCOL_UDP
from coderd.packet.transport import TCP_ACK, TCP_HEADER_SIZE, TCP_PSH, UDP_HEADER_SIZE, tcp_header_length
from coderd.tun.virtio import GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, NO_OFFLOAD, VirtioHeader

MAX_SIZE = 65535
"""Of a super-packet, headers included: what both length fields and the kernel can take."""
MAX_UDP_SEGMENTS = 64
"""Linux before 6.9 refuses a write of more."""
MAX_TCP_SEGMENTS = 1000
"""Together with the headers below IOV_MAX, the 1024 pieces of one ``writev``."""

_WORD16 = struct.Struct(">H")
_PLAIN = (TCP_ACK, TCP_ACK | TCP_PSH)
_FRAGMENT = 0x3FFF


class _Family(NamedTuple):
    """How one IP version's headers are read and summed.

    ``read_tcp`` and ``read_udp`` cut a header into: what must be equal (twice), the length field between them,
    addresses and ports, and the transport's own fields. ``length_excludes`` is what the length field does not count.
    """

    ip_length: int
    length_at: int
    length_excludes: int
    protocol_at: int
    addresses_at: int
    tcp_type: int
    read_tcp: Callable[[Buffer], tuple[bytes, int, bytes, bytes, int, bytes, int, bytes]]
    read_udp: Callable[[Buffer], tuple[bytes, int, bytes, bytes, int]]


_IPV4 = _Family(
    ip_length=IPV4_HEADER_SIZE,
    length_at=2,
    length_excludes=0,
    protocol_at=9,
    addresses_at=12,
    tcp_type=GSO_TCPV4,
    # version, tos | total length | flags, fragment, ttl, protocol | addresses, ports | seq | ack, offset | flags | window
    read_tcp=struct.Struct(">2sH2x4s2x12sI5sB2s").unpack_from,
    read_udp=struct.Struct(">2sH2x4s2x12sH").unpack_from,
)
_IPV6 = _Family(
    ip_length=IPV6_HEADER_SIZE,
    length_at=4,
    length_excludes=IPV6_HEADER_SIZE,
    protocol_at=6,
    addresses_at=8,
    tcp_type=GSO_TCPV6,
    # version, class, flow label | payload length | next header, hop limit | addresses, ports | as above
    read_tcp=struct.Struct(">4sH2s36sI5sB2s").unpack_from,
    read_udp=struct.Struct(">4sH2s36sH").unpack_from,
)


class _Run:
    """Packets that will be one write; ``like`` is what the next one must have in common with them."""

    __slots__ = (
        "family",
        "flags",
        "header_length",
        "is_open",
        "like",
        "members",
        "next_sequence",
        "options",
        "payloads",
        "protocol",
        "segment_size",
        "size",
    )

    def __init__(
        self,
        index: int,
        packet: Buffer,
        family: _Family | None = None,
        protocol: int = 0,
        header_length: int = 0,
        like: tuple[bytes, ...] = (),
    ) -> None:
        self.family = family
        self.protocol = protocol
        self.header_length = header_length
        self.like = like
        self.members = [index]
        self.size = len(packet)
        self.segment_size = self.size - header_length
        self.payloads: list[Buffer] = [packet[header_length:]]
        self.options: Buffer = b""
        self.next_sequence = 0
        self.flags = 0
        self.is_open = True

    def append(self, index: int, packet: Buffer, max_segments: int) -> bool:
        """Takes a packet whose headers fit; False if its size does not."""
        size = len(packet) - self.header_length
        if size > self.segment_size or self.size + size > MAX_SIZE or len(self.members) >= max_segments:
            return False
        self.members.append(index)
        self.payloads.append(packet[self.header_length :])
        self.size += size
        self.is_open = size == self.segment_size
        return True


def coalesce(packets: Sequence[Buffer], *, uso: bool) -> list[list[Buffer]]:
    """Merges what the kernel can take as one.

    Args:
        packets: IP packets in the order in which they came; not modified, and referred to by the result.
        uso: whether the kernel takes UDP super-packets (Linux 6.2 or newer); else UDP is passed on packet by packet.

    Returns: one gather list per write, each beginning with 10 bytes of virtio header.
    """
    if len(packets) == 1:
        return [[NO_OFFLOAD, packets[0]]]
    runs = _Grouping(packets, uso, ()).runs
    merged = [run for run in runs if len(run.members) > 1]
    if merged and (refused := _with_wrong_checksum(packets, merged)):
        # Regrouping may join packets that stood alone before, so now every candidate must have been verified.
        refused |= _with_wrong_checksum(packets, [run for run in runs if run.family is not None])
        runs = _Grouping(packets, uso, refused).runs
    return [
        _finish(run, packets[run.members[0]])
        if len(run.members) > 1
        else [NO_OFFLOAD, packets[run.members[0]]]
        for run in runs
    ]


class _Grouping:
    """Assigns every packet to a run, those that cannot be merged to one of their own."""

    def __init__(self, packets: Sequence[Buffer], uso: bool, refused: Container[int]) -> None:
        self.runs: list[_Run] = []
        self._tcp: dict[bytes, _Run] = {}
        self._udp: dict[bytes, _Run] = {}
        for index, packet in enumerate(packets):
            size = len(packet)
            first = packet[0] if size > IPV4_HEADER_SIZE else 0
            family = (
                _IPV4 if first == 0x45 else _IPV6 if first >> 4 == 6 and size > IPV6_HEADER_SIZE else None
            )
            protocol = packet[family.protocol_at] if family is not None else 0
            if family is None:
                self._add_unreadable(index, packet)
            elif protocol == PROTOCOL_TCP and size >= family.ip_length + TCP_HEADER_SIZE:
                self._add_tcp(index, packet, family, index in refused)
            elif protocol == PROTOCOL_UDP and size >= family.ip_length + UDP_HEADER_SIZE:
                self._add_udp(index, packet, family, index in refused or not uso)
            else:
                self._add_unreadable(index, packet)

    def _add_tcp(self, index: int, packet: Buffer, family: _Family, is_refused: bool) -> None:
        before, length, behind, connection, sequence, ack_offset, flags, window = family.read_tcp(packet)
        run = self._tcp.get(connection)
        like = (before, behind, ack_offset, window)
        size = len(packet)
        if run is not None and run.next_sequence == sequence and run.like == like and not is_refused:
            at = run.header_length
            if (
                length + family.length_excludes == size > at
                and flags in _PLAIN
                and packet[family.ip_length + TCP_HEADER_SIZE : at] == run.options
                and run.append(index, packet, MAX_TCP_SEGMENTS)
            ):
                run.next_sequence = (sequence + size - at) & 0xFFFFFFFF
                if flags & TCP_PSH:
                    run.flags, run.is_open = flags, False
                if not run.is_open:
                    del self._tcp[connection]
                return
        self._tcp.pop(connection, None)
        at = family.ip_length + tcp_header_length(ack_offset[4])
        if (
            is_refused
            or flags not in _PLAIN
            or not family.ip_length + TCP_HEADER_SIZE <= at < size
            or length + family.length_excludes != size
            or _is_fragment(family, behind)
        ):
            self._add_alone(index, packet, family, behind)
            return
        run = _Run(index, packet, family, PROTOCOL_TCP, at, like)
        run.options = bytes(packet[family.ip_length + TCP_HEADER_SIZE : at])
        run.next_sequence = (sequence + size - at) & 0xFFFFFFFF
        run.flags = flags
        self.runs.append(run)
        if not flags & TCP_PSH:
            self._tcp[connection] = run

    def _add_udp(self, index: int, packet: Buffer, family: _Family, is_refused: bool) -> None:
        before, length, behind, connection, udp_length = family.read_udp(packet)
        run = self._udp.pop(connection, None)
        like = (before, behind)
        size = len(packet)
        at = family.ip_length + UDP_HEADER_SIZE
        if (
            is_refused
            or size == at
            or length + family.length_excludes != size
            or udp_length + family.ip_length != size
            or _is_fragment(family, behind)
        ):
            self._add_alone(index, packet, family, behind)
            return
        if run is None or run.like != like or not run.append(index, packet, MAX_UDP_SEGMENTS):
            run = _Run(index, packet, family, PROTOCOL_UDP, at, like)
            self.runs.append(run)
        if run.is_open:
            self._udp[connection] = run

    def _add_alone(self, index: int, packet: Buffer, family: _Family, behind: bytes) -> None:
        """A packet of a known connection that merges with nothing, unless it is a fragment: then nobody's ports were read."""
        if _is_fragment(family, behind):
            self._add_unreadable(index, packet)
        else:
            self.runs.append(_Run(index, packet))

    def _add_unreadable(self, index: int, packet: Buffer) -> None:
        self._tcp.clear()
        self._udp.clear()
        self.runs.append(_Run(index, packet))


def _is_fragment(family: _Family, behind: bytes) -> bool:
    """IPv6 fragments carry an extension header and never get here."""
    return family is _IPV4 and int.from_bytes(behind[:2], "big") & _FRAGMENT != 0


def _with_wrong_checksum(packets: Sequence[Buffer], runs: list[_Run]) -> set[int]:
    """Those members of runs whose IPv4 header checksum or transport checksum (0, "none", included) is not right."""
    wrong: set[int] = set()
    for family in (_IPV4, _IPV6):
        ours = [run for run in runs if run.family is family]
        members = [index for run in ours for index in run.members]
        if not members:
            continue
        sums = iter(split_sums([packets[index] for index in members], family.addresses_at))
        for run in ours:
            first = packets[run.members[0]]
            addresses = ones_sum(first[family.addresses_at : family.ip_length])
            beside = run.protocol - family.ip_length
            for index, (head, tail) in zip(run.members, sums, strict=False):
                if (tail + beside + len(packets[index])) % MODULUS or (
                    family is _IPV4 and (head + addresses) % MODULUS
                ):
                    wrong.add(index)
    return wrong


def _finish(run: _Run, first: Buffer) -> list[Buffer]:
    """The first packet's headers, made those of the super-packet, before all payloads."""
    family = run.family
    assert family is not None, "only candidates are merged"
    is_tcp = run.protocol == PROTOCOL_TCP
    at = family.ip_length
    header = bytearray(first[: run.header_length])
    _WORD16.pack_into(header, family.length_at, run.size - family.length_excludes)
    if family is _IPV4:
        _WORD16.pack_into(header, 10, 0)
        _WORD16.pack_into(header, 10, MODULUS - ones_sum(header[:at]))
    if is_tcp:
        header[at + 13] = run.flags
    else:
        _WORD16.pack_into(header, at + 4, run.size - at)
    csum_offset = 16 if is_tcp else 6
    pseudo = pseudo_header_sum(header[family.addresses_at : at], run.protocol, run.size - at)
    _WORD16.pack_into(header, at + csum_offset, pseudo)
    offload = VirtioHeader(
        NEEDS_CSUM,
        family.tcp_type if is_tcp else GSO_UDP_L4,
        run.header_length,
        run.segment_size,
        at,
        csum_offset,
    )
    return [offload.encode(), header, *run.payloads]
