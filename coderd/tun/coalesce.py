"""Merges the packets of one batch into super-packets, which the kernel handles at once each (GRO).

A *run* is the packets, in order, that one super-packet will carry. Each packet's header bytes are compared
with those of its connection's run, which decides whether the packet joins it. Two rules keep the result
equivalent to the input:

- **Order within a connection stays.** A packet joins only directly behind the most recent packet of its
  connection (connlib's rule), so a packet that cannot be merged ends its connection's run; a packet of which
  the connection cannot be read (a fragment, an extension header, ICMP) ends all runs. Super-packets stand
  where their first packet stood.
- **Wrong checksums stay wrong.** The kernel trusts the contents of a super-packet, so the checksums of all
  packets of a run are verified first, in one vectorised pass. Packets that fail are written singly, for the
  kernel to check and drop: the batch is grouped a second time without them. Packets that are not merged are
  not summed.

The kernel's own GRO compares some header fields (window and IPv6 flow label among them, as the super-packet
has only one of each); here options must be equal too, byte by byte. Payloads are not copied: an item is a
gather list for ``writev``.
"""

import struct
from collections.abc import Callable, Container, Sequence
from functools import cache
from typing import NamedTuple, TypeAlias

from coderd.model import Buffer
from coderd.packet.checksum import MODULUS, ones_sum, pseudo_header_sum, split_sums
from coderd.packet.ip import IPV4_HEADER_SIZE, IPV6_HEADER_SIZE, PROTOCOL_TCP, PROTOCOL_UDP
from coderd.packet.transport import TCP_ACK, TCP_HEADER_SIZE, TCP_PSH, UDP_HEADER_SIZE, tcp_header_length
from coderd.tun.virtio import GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, NO_OFFLOAD, VirtioHeader

MAX_SIZE = 65535
"""Most bytes of a super-packet, headers included: the range of both IP length fields, and Linux's limit."""
MAX_UDP_SEGMENTS = 64
"""Most segments of a UDP super-packet: Linux before 6.9 refuses a write of more."""
MAX_TCP_SEGMENTS = 1000
"""Most segments of a TCP super-packet: with two headers below IOV_MAX, the 1024 pieces of one ``writev``."""

_WORD16 = struct.Struct(">H")
_PLAIN = (TCP_ACK, TCP_ACK | TCP_PSH)
_FRAGMENT = 0x3FFF


class _Family(NamedTuple):
    """Layout of one IP version's headers: offsets in bytes, and readers of the fields that merging compares.

    ``read_tcp`` and ``read_udp`` return, of a packet: bytes that must be equal, the length field, more bytes
    that must be equal, addresses and ports, then the transport's own fields. ``length_excludes`` is the
    number of bytes that the length field does not count.
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
    # version, tos | total length | flags, fragment, ttl, protocol | addresses, ports
    # | sequence | acknowledgement, offset | flags | window
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


_Reader: TypeAlias = Callable[[Buffer], tuple[bytes | int, ...]]

# The headers without the fields that differ by segment: IPv4 identification and both checksums.
_IPV4_UDP: _Reader = struct.Struct(">4s2x4s2x12sH").unpack_from
_IPV6_UDP: _Reader = struct.Struct(">44sH").unpack_from


@cache
def _tcp_reader(is_ipv4: bool, header_length: int) -> _Reader:
    """Returns a reader of a TCP packet's headers, but for IPv4 identification and checksums.

    The reader returns three pieces that hold the IP header and the ports, then the sequence number,
    acknowledgement with data offset, flags, window, and options.
    """
    layout = ">4s2x4s2x12sI5sB2s4x" if is_ipv4 else ">4s4s36sI5sB2s4x"
    return struct.Struct(f"{layout}{header_length - struct.calcsize(layout)}s").unpack_from


class _Run:
    """Packets of one connection, in order, that will be one write; or a single packet of any kind.

    ``family`` is None for a packet that is not a candidate for merging. ``like`` holds the header fields that
    the next packet must share, ``flags`` the last packet's TCP flags, ``next_sequence`` the TCP sequence
    number of the next one.
    """

    __slots__ = (
        "family",
        "flags",
        "header_length",
        "like",
        "members",
        "next_sequence",
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
        self.next_sequence = 0
        self.flags = 0

    def room(self) -> int:
        """Returns how many more segments of full size fit."""
        most = MAX_TCP_SEGMENTS if self.protocol == PROTOCOL_TCP else MAX_UDP_SEGMENTS
        return min(most - len(self.members), (MAX_SIZE - self.size) // self.segment_size)

    def append(self, index: int, packet: Buffer) -> bool:
        """Adds a packet that has matching headers. Returns False if it is too large, or the run is full."""
        size = len(packet) - self.header_length
        most = MAX_TCP_SEGMENTS if self.protocol == PROTOCOL_TCP else MAX_UDP_SEGMENTS
        if size > self.segment_size or self.size + size > MAX_SIZE or len(self.members) >= most:
            return False
        self.members.append(index)
        self.payloads.append(packet[self.header_length :])
        self.size += size
        return True

    def count_followers(self, first: Buffer, packets: Sequence[Buffer]) -> int:
        """Returns how many packets, from the first on, continue the run in sequence with equal headers.

        Args:
            first: the run's first packet.
            packets: packets of the size of ``first``.
        """
        if self.protocol == PROTOCOL_UDP:
            read = _IPV4_UDP if self.family is _IPV4 else _IPV6_UDP
            like = read(first)
            return next((n for n, fields in enumerate(map(read, packets)) if fields != like), len(packets))
        read = _tcp_reader(self.family is _IPV4, self.header_length)
        one, two, three, _, ack_offset, flags, window, options = read(first)
        sequence, step = self.next_sequence, self.segment_size
        for n, fields in enumerate(map(read, packets)):
            if fields != (one, two, three, sequence, ack_offset, flags, window, options):
                return n
            sequence = (sequence + step) & 0xFFFFFFFF
        return len(packets)

    def extend(self, index: int, packets: Sequence[Buffer]) -> None:
        """Adds packets that ``count_followers`` has counted; ``index`` is the first one's in the batch."""
        at, n_packets = self.header_length, len(packets)
        self.members.extend(range(index, index + n_packets))
        self.payloads.extend([packet[at:] for packet in packets])
        self.size += n_packets * self.segment_size
        self.next_sequence = (self.next_sequence + n_packets * self.segment_size) & 0xFFFFFFFF


def coalesce(packets: Sequence[Buffer], *, uso: bool) -> list[list[Buffer]]:
    """Merges consecutive packets of a connection into super-packets that the kernel accepts in one write.

    Args:
        packets: IP packets in the order in which they came; not modified, and referred to by the result.
        uso: whether the kernel takes UDP super-packets (Linux 6.2 or newer); else UDP is passed on packet by
            packet.

    Returns: one gather list per write, each beginning with 10 bytes of virtio header.
    """
    if len(packets) == 1:
        return [[NO_OFFLOAD, packets[0]]]
    runs = _Grouping(packets, uso, ()).runs
    merged = [run for run in runs if len(run.members) > 1]
    if merged and (refused := _with_wrong_checksum(packets, merged)):
        # Grouping again may join packets that stood alone before, so every candidate is verified now.
        refused |= _with_wrong_checksum(packets, [run for run in runs if run.family is not None])
        runs = _Grouping(packets, uso, refused).runs
    return [
        _finish(run, packets[run.members[0]])
        if len(run.members) > 1
        else [NO_OFFLOAD, packets[run.members[0]]]
        for run in runs
    ]


class _Grouping:
    """Assignment of every packet of a batch to a run; a packet that cannot be merged has a run of its own.

    ``_add`` applies all rules to one packet; ``_take_followers`` then takes at once the packets directly
    behind it that have its size and equal headers. Nearly all packets of a bulk transfer take the second way,
    the fast one.
    """

    def __init__(self, packets: Sequence[Buffer], uso: bool, refused: Container[int]) -> None:
        self.runs: list[_Run] = []
        self._packets = packets
        self._sizes = list(map(len, packets))
        self._uso = uso
        self._refused = refused
        self._tcp: dict[bytes, _Run] = {}
        self._udp: dict[bytes, _Run] = {}
        index, n_packets = 0, len(packets)
        while index < n_packets:
            run = self._add(index, packets[index])
            index += 1
            # Two neighbours in one run promise more; where connections alternate, looking ahead finds none.
            if run is not None and run.members[-2:] == [index - 2, index - 1] and not refused:
                index = self._take_followers(run, index)

    def _add(self, index: int, packet: Buffer) -> _Run | None:
        """Assigns one packet to a run. Returns that run, or None if no further packet can join it."""
        size = self._sizes[index]
        first = packet[0] if size > IPV4_HEADER_SIZE else 0
        family = _IPV4 if first == 0x45 else _IPV6 if first >> 4 == 6 and size > IPV6_HEADER_SIZE else None
        protocol = packet[family.protocol_at] if family is not None else 0
        if family is not None and protocol == PROTOCOL_TCP and size >= family.ip_length + TCP_HEADER_SIZE:
            return self._add_tcp(index, packet, family)
        if family is not None and protocol == PROTOCOL_UDP and size >= family.ip_length + UDP_HEADER_SIZE:
            return self._add_udp(index, packet, family)
        self._add_unreadable(index, packet)
        return None

    def _add_tcp(self, index: int, packet: Buffer, family: _Family) -> _Run | None:
        before, length, behind, connection, sequence, ack_offset, flags, window = family.read_tcp(packet)
        options_at = family.ip_length + TCP_HEADER_SIZE
        at = family.ip_length + tcp_header_length(ack_offset[4])
        size = self._sizes[index]
        run = self._tcp.pop(connection, None)
        if (
            index in self._refused
            or flags not in _PLAIN
            or not options_at <= at < size
            or length + family.length_excludes != size
            or _is_fragment(family, behind)
        ):
            self._add_alone(index, packet, family, behind)
            return None
        like = (before, behind, ack_offset, window, bytes(packet[options_at:at]))
        if run is None or run.next_sequence != sequence or run.like != like or not run.append(index, packet):
            run = _Run(index, packet, family, PROTOCOL_TCP, at, like)
            self.runs.append(run)
        run.next_sequence = (sequence + size - at) & 0xFFFFFFFF
        run.flags = flags
        return self._keep(self._tcp, connection, run)

    def _add_udp(self, index: int, packet: Buffer, family: _Family) -> _Run | None:
        before, length, behind, connection, udp_length = family.read_udp(packet)
        at = family.ip_length + UDP_HEADER_SIZE
        size = self._sizes[index]
        run = self._udp.pop(connection, None)
        if (
            not self._uso
            or index in self._refused
            or size == at
            or length + family.length_excludes != size
            or udp_length + family.ip_length != size
            or _is_fragment(family, behind)
        ):
            self._add_alone(index, packet, family, behind)
            return None
        like = (before, behind)
        if run is None or run.like != like or not run.append(index, packet):
            run = _Run(index, packet, family, PROTOCOL_UDP, at, like)
            self.runs.append(run)
        return self._keep(self._udp, connection, run)

    def _keep(self, table: dict[bytes, _Run], connection: bytes, run: _Run) -> _Run | None:
        """Keeps a run open in a table and returns it, or None where a short segment or PSH ends it."""
        if run.segment_size != self._sizes[run.members[-1]] - run.header_length or run.flags & TCP_PSH:
            return None
        table[connection] = run
        return run

    def _take_followers(self, run: _Run, index: int) -> int:
        """Adds to a run the packets from ``index`` on that continue it.

        Returns the index behind the last of them.
        """
        size = run.header_length + run.segment_size
        limit = min(len(self._sizes), index + run.room())
        end = index
        while end < limit and self._sizes[end] == size:
            end += 1
        if end > index:
            end = index + run.count_followers(self._packets[run.members[0]], self._packets[index:end])
            run.extend(index, self._packets[index:end])
        return end

    def _add_alone(self, index: int, packet: Buffer, family: _Family, behind: bytes) -> None:
        """Gives a packet a run of its own; a fragment, which may lack its ports, ends all runs."""
        if _is_fragment(family, behind):
            self._add_unreadable(index, packet)
        else:
            self.runs.append(_Run(index, packet))

    def _add_unreadable(self, index: int, packet: Buffer) -> None:
        self._tcp.clear()
        self._udp.clear()
        self.runs.append(_Run(index, packet))


def _is_fragment(family: _Family, behind: bytes) -> bool:
    """Returns whether an IPv4 packet is a fragment; an IPv6 fragment's next header is not TCP or UDP."""
    return family is _IPV4 and int.from_bytes(behind[:2], "big") & _FRAGMENT != 0


def _with_wrong_checksum(packets: Sequence[Buffer], runs: list[_Run]) -> set[int]:
    """Returns the indexes of packets with a wrong IPv4 header checksum or transport checksum.

    A UDP checksum of 0 ("none", RFC 768) counts as wrong.
    """
    return {
        index
        for family in (_IPV4, _IPV6)
        if (ours := [run for run in runs if run.family is family])
        for index in _wrong_of_family(packets, family, ours)
    }


def _wrong_of_family(packets: Sequence[Buffer], family: _Family, runs: list[_Run]) -> list[int]:
    """Returns the indexes of one IP version's packets with a wrong checksum.

    Each packet's sums, before the addresses and from them on, are compared with the sums due by the fields
    that are not summed: a right checksum makes the total a multiple of 65535 (RFC 1071).
    """
    members = [index for run in runs for index in run.members]
    heads, tails = split_sums([packets[index] for index in members], family.addresses_at)
    due_tails = [due for run in runs for due in _due_tails(run, family, len(packets[run.members[-1]]))]
    due_heads = heads
    if family is _IPV4:
        due_heads = [due for run in runs for due in [_due_head(packets[run.members[0]])] * len(run.members)]
    if tails == due_tails and heads == due_heads:
        return []
    checks = zip(members, heads, due_heads, tails, due_tails, strict=True)
    return [index for index, head, due_head, tail, due_tail in checks if head != due_head or tail != due_tail]


def _due_tails(run: _Run, family: _Family, last_size: int) -> list[int]:
    """Returns the sum, modulo 65535, due from each member from its addresses on; the last may be shorter."""
    due = (family.ip_length - run.protocol - run.header_length - run.segment_size) % MODULUS
    due_last = (family.ip_length - run.protocol - last_size) % MODULUS
    return [due] * (len(run.members) - 1) + [due_last]


def _due_head(packet: Buffer) -> int:
    """Returns the sum, modulo 65535, due from the 12 bytes before the addresses of a right IPv4 header."""
    return -ones_sum(packet[_IPV4.addresses_at : _IPV4.ip_length]) % MODULUS


def _finish(run: _Run, first: Buffer) -> list[Buffer]:
    """Returns a run's gather list: virtio header, the super-packet's headers, all payloads.

    The headers are the first packet's with new lengths, checksums and TCP flags. The transport checksum field
    holds the pseudo-header's sum, as NEEDS_CSUM demands.
    """
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
