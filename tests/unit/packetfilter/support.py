"""Packets and a filter with peers, for the tests of the packet filter."""

import struct
from collections import Counter
from ipaddress import IPv6Address

from coderd.model import Buffer
from coderd.model.keys import NodePublic
from coderd.model.ports import parse_ports
from coderd.packet.transport import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from coderd.packetfilter import InboundPolicy, PacketFilter, device_policy

SYN, ACK, FIN, RST = TCP_SYN, TCP_ACK, TCP_FIN, TCP_RST
OWN = IPv6Address("fd60:627a:a42b::1").packed
PEER = IPv6Address("fd60:627a:a42b::2").packed
OTHER = IPv6Address("fd60:627a:a42b::3").packed
PEER_KEY, OTHER_KEY = NodePublic(b"p" * 32), NodePublic(b"o" * 32)
TCP, UDP, ICMP, FRAGMENT = 6, 17, 58, 44


def ipv6(source: bytes, to: bytes, next_header: int, body: bytes) -> bytes:
    return struct.pack(">IHBB16s16s", 6 << 28, len(body), next_header, 64, source, to) + body


def tcp_body(source_port: int, port: int, flags: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHIIBBHHH", source_port, port, 1, 1, 0x50, flags, 500, 0, 0) + payload


def udp_body(source_port: int, port: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHHH", source_port, port, 8 + len(payload), 0) + payload


def echo_body(kind: int, identifier: int, sequence: int = 0) -> bytes:
    return struct.pack(">BBHHH", kind, 0, 0, identifier, sequence)


def fragment_body(
    protocol: int, offset: int, identification: int, body: bytes, *, more: bool = True
) -> bytes:
    return struct.pack(">BBHI", protocol, 0, offset << 3 | more, identification) + body


def error_body(kind: int, quote: bytes, code: int = 0) -> bytes:
    return struct.pack(">BBHI", kind, code, 0, 0) + quote


class Host:
    """A node with a filter, and one peer unless ``other`` is asked for.

    Its methods say whether a packet passed.
    """

    def __init__(
        self, accepts: str | InboundPolicy = "none", *, ephemeral: tuple[int, int] = (32768, 60999)
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.filter = PacketFilter(counters=self.counters, ephemeral=ephemeral)
        self.now = 0.0
        self.allow(accepts)

    def allow(self, accepts: str | InboundPolicy) -> None:
        policy = accepts if isinstance(accepts, InboundPolicy) else device_policy(parse_ports(accepts))
        self.filter.set_peers(OWN, {PEER_KEY: (PEER, policy), OTHER_KEY: (OTHER, policy)}, self.now)

    def restart(self, accepts: str = "none") -> None:
        """The daemon starts anew: its table is empty."""
        self.filter = PacketFilter(counters=self.counters)
        self.allow(accepts)

    def takes(self, packet: Buffer, key: NodePublic = PEER_KEY) -> bool:
        return bool(self.filter.admit(key, [packet], self.now))

    def sends(self, packet: Buffer) -> bool:
        return self.filter.note_outbound(packet, self.now)

    # TCP and UDP: this node's port first, then the peer's

    def tcp_in(self, port: int, peer_port: int, flags: int = ACK, payload: bytes = b"") -> bool:
        return self.takes(ipv6(PEER, OWN, TCP, tcp_body(peer_port, port, flags, payload)))

    def tcp_out(self, port: int, peer_port: int, flags: int = ACK, payload: bytes = b"") -> bool:
        return self.sends(ipv6(OWN, PEER, TCP, tcp_body(port, peer_port, flags, payload)))

    def udp_in(self, port: int, peer_port: int) -> bool:
        return self.takes(ipv6(PEER, OWN, UDP, udp_body(peer_port, port)))

    def udp_out(self, port: int, peer_port: int) -> bool:
        return self.sends(ipv6(OWN, PEER, UDP, udp_body(port, peer_port)))

    def icmp_in(self, body: bytes) -> bool:
        return self.takes(ipv6(PEER, OWN, ICMP, body))

    def icmp_out(self, body: bytes) -> bool:
        return self.sends(ipv6(OWN, PEER, ICMP, body))

    def fragment_in(self, protocol: int, offset: int, identification: int, body: bytes) -> bool:
        return self.takes(ipv6(PEER, OWN, FRAGMENT, fragment_body(protocol, offset, identification, body)))

    def connect(self, port: int, peer_port: int) -> None:
        """This node connects to a port of the peer's."""
        assert self.tcp_out(port, peer_port, SYN)
        assert self.tcp_in(port, peer_port, SYN | ACK)
        assert self.tcp_out(port, peer_port)

    def accept(self, port: int, peer_port: int) -> None:
        """The peer connects to a port of this node's."""
        assert self.tcp_in(port, peer_port, SYN)
        assert self.tcp_out(port, peer_port, SYN | ACK)
        assert self.tcp_in(port, peer_port)

    @property
    def drops(self) -> dict[str, int]:
        prefix = "packetfilter.drop."
        return {name.removeprefix(prefix): n for name, n in self.counters.items() if name.startswith(prefix)}
