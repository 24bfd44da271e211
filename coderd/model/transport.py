"""Sources and transmits: where batches of datagrams come from and go to, independent of how paths are chosen.

The data plane (``engine``), magicsock and plain WireGuard endpoints speak of paths in these words only.
"""

from typing import Final, NamedTuple, NewType, TypeAlias

from coderd.model.addresses import AddrPort, encode_addr_port
from coderd.model.keys import NodePublic

SocketId = NewType("SocketId", int)
"""Number of a local UDP socket: ``MAIN_SOCKET``, or that of a spare one, which hard NATs call for.

A number is never used twice.
"""

MAIN_SOCKET: Final = SocketId(0)
"""The pair (IPv4 and IPv6 on one port) that carries everything unless a batch says otherwise."""


BUFFER_SIZE: Final = 65536
"""Bytes of a buffer for one read.

A TUN's super-packet and a ``UDP_GRO`` batch are at most 65,535 bytes (the length fields of IP and UDP); a
shorter buffer would lose the rest."""


class UdpSource(NamedTuple):
    """Origin of a batch that came over UDP: the sender's address, and what received it here."""

    addr: AddrPort
    socket: SocketId = MAIN_SOCKET
    """Local socket that received the batch."""
    local: "LocalAddress | None" = None
    """Address of this host that the batch was sent to; None where the sockets do not ask for it."""

    @property
    def cookie_bytes(self) -> bytes:
        """Returns what WireGuard's cookie is bound to (paper §5.4.7): address and port, 18 bytes."""
        return encode_addr_port(self.addr)


class DerpSource(NamedTuple):
    """Origin of a batch that came through a relay: the relay's region, and the sender's node key."""

    region: int
    key: NodePublic

    @property
    def cookie_bytes(self) -> bytes:
        """Returns what WireGuard's cookie is bound to: the sender's key, since a relay has no addresses."""
        return bytes(self.key)


Source: TypeAlias = UdpSource | DerpSource
"""Where a batch came from."""


class LocalAddress(NamedTuple):
    """Address of this host to send from.

    It is packed (4 or 16 bytes), with an interface's index, or 0 where none is needed.
    """

    ip: bytes
    interface: int = 0


class UdpTransmit(NamedTuple):
    """Batch for one ``sendmsg`` to one address: datagrams of equal size, of which the last may be shorter."""

    addr: AddrPort
    datagrams: list[bytes]
    segment_size: int
    """Bytes of each datagram but the last: UDP GSO's segment size."""
    local: LocalAddress | None = None
    """Source address; None leaves the choice to the kernel."""
    tos: int = 0
    """DSCP and ECN (RFC 2474, RFC 3168): the second byte of the IPv4 header, the traffic class of IPv6."""
    socket: SocketId = MAIN_SOCKET
    """Local socket to send from."""


class DerpTransmit(NamedTuple):
    """Batch for one relay: the region, the receiver's node key, and the datagrams."""

    region: int
    to: NodePublic
    datagrams: list[bytes]
