"""Sources and transmits: where batches of datagrams come from and go to, whoever chooses the paths.

The data plane (``engine``), magicsock and plain WireGuard endpoints speak of paths in these words only.
"""

from typing import NamedTuple, TypeAlias

from coderd.model.addresses import AddrPort, encode_addr_port
from coderd.model.keys import NodePublic


class UdpSource(NamedTuple):
    """Origin of a batch that came over UDP: the sender's address, and the local socket that received it.

    Socket 0 is the ordinary pair (IPv4 and IPv6); other numbers are spare sockets, opened for hard NATs.
    """

    addr: AddrPort
    socket: int = 0

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
    """Address of this host to send from: packed (4 or 16 bytes), and an interface's index, or 0 where none is needed."""

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
    socket: int = 0
    """Local socket to send from: 0 is the ordinary pair, other numbers are spare sockets."""


class DerpTransmit(NamedTuple):
    """Batch for one relay: the region, the receiver's node key, and the datagrams."""

    region: int
    to: NodePublic
    datagrams: list[bytes]
