"""What the kernel says and hears beside a UDP datagram: control messages, and addresses in its own form.

==============  =============================  ====================================================
direction       message                        meaning
==============  =============================  ====================================================
both            SOL_UDP, UDP_GRO/UDP_SEGMENT   size of each datagram of a batch (int; uint16)
both            IP_TOS, IPV6_TCLASS            service byte: DSCP, and ECN in its lowest two bits
both            IP_PKTINFO, IPV6_PKTINFO       our own address that it was sent to, or is sent from
in              SO_RXQ_OVFL                    datagrams so far that the socket's buffer had no room for
==============  =============================  ====================================================

All constants are plain numbers: an enum costs at every look, and these are looked at with every batch.
"""

import socket
import struct
import sys
from typing import Any

from coderd.model.addresses import AddrPort, canonical_ip, is_ipv6
from coderd.model.transport import LocalAddress, UdpTransmit

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
SEGMENT = struct.Struct("=H")
"""Size of a batch's datagrams, as UDP_SEGMENT takes it."""
IP_RECVTOS = 13
SO_RXQ_OVFL = 40

_IPPROTO_IP, _IPPROTO_IPV6, _SOL_SOCKET = 0, 41, 1
_IP_TOS, _IPV6_TCLASS = 1, 67
_IP_PKTINFO = 8
_CE = 3
"""ECN bits of the service byte that say that a router on the path was congested (RFC 3168 §5)."""
_INT = struct.Struct("=i")
_IN_PKTINFO = struct.Struct("=i4s4s")
_IN6_PKTINFO = struct.Struct("=16sI")
_MAPPED_PREFIX = "::ffff:"

ANCILLARY_SIZE = 3 * socket.CMSG_SPACE(_INT.size) + socket.CMSG_SPACE(_IN6_PKTINFO.size)
"""Bytes of all control messages that one read may bring."""


# In


def describe(ancillary: list[tuple[int, int, bytes]], n_bytes: int) -> tuple[int | None, bool, int]:
    """Parses the kernel's ancillary data on a batch of ``n_bytes``.

    Returns: the datagrams' size (``n_bytes``, for one datagram, where the kernel gives none; None if it is
        invalid), whether the batch was marked CE, and how many datagrams the kernel has dropped for want of
        buffer so far (0 where it does not say).
    """
    size: int | None = max(n_bytes, 1)
    is_congested, n_overflowed = False, 0
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            said = _INT.unpack(data)[0] if len(data) == _INT.size else 0
            size = said if 0 < said <= n_bytes else None
        elif (level == _IPPROTO_IP and kind == _IP_TOS) or (level == _IPPROTO_IPV6 and kind == _IPV6_TCLASS):
            is_congested = int.from_bytes(data, sys.byteorder) & _CE == _CE
        elif level == _SOL_SOCKET and kind == SO_RXQ_OVFL:
            n_overflowed = int.from_bytes(data, sys.byteorder)
    return size, is_congested, n_overflowed


def addr_port(sender: Any) -> AddrPort:
    """Converts a sender as the kernel names it: canonical text already, a scope, if any, as a number."""
    ip: str = sender[0]
    if ip.startswith(_MAPPED_PREFIX):
        return (canonical_ip(ip), sender[1])
    if len(sender) == 4 and sender[3]:
        return (f"{ip.partition('%')[0]}%{sender[3]}", sender[1])
    return (ip, sender[1])


def local_address(ancillary: list[tuple[int, int, bytes]]) -> LocalAddress | None:
    """Returns which of our addresses a message was sent to, if ``ask_local_address`` has enabled that.

    An interface is named only where the address says nothing without it: routing may choose another tomorrow.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) == _IN_PKTINFO.size:
            return LocalAddress(_IN_PKTINFO.unpack(data)[1])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) == _IN6_PKTINFO.size:
            ip, interface = _IN6_PKTINFO.unpack(data)
            if ip[0] == 0xFF:
                return None
            is_link_local = ip[0] == 0xFE and ip[1] & 0xC0 == 0x80
            return LocalAddress(ip, interface if is_link_local else 0)
    return None


def ask_local_address(sock: socket.socket) -> None:
    """Has the kernel say with each message which of our addresses it was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


# Out


def destination(addr: AddrPort) -> tuple[str, int] | tuple[str, int, int, int]:
    """Converts an address for ``sendmsg``: a scope has a place of its own, and is ignored within the text."""
    ip, percent, scope = addr[0].partition("%")
    return (ip, addr[1], 0, int(scope)) if percent and scope.isascii() and scope.isdigit() else addr


def beside(transmit: UdpTransmit) -> list[tuple[int, int, bytes]]:
    """Returns the control messages for what a batch asks of its IP header."""
    messages = [_from(transmit.local)] if transmit.local is not None else []
    if transmit.tos:
        is_v6 = is_ipv6(transmit.addr)
        level, kind = (_IPPROTO_IPV6, _IPV6_TCLASS) if is_v6 else (_IPPROTO_IP, _IP_TOS)
        messages.append((level, kind, _INT.pack(transmit.tos)))
    return messages


def _from(local: LocalAddress) -> tuple[int, int, bytes]:
    """Returns the control message that chooses a source address."""
    if len(local.ip) == 4:
        return (socket.IPPROTO_IP, _IP_PKTINFO, _IN_PKTINFO.pack(local.interface, local.ip, bytes(4)))
    return (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(local.ip, local.interface))
