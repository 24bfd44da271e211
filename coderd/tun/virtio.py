"""The header that a TUN opened with IFF_VNET_HDR puts in front of every packet (``struct virtio_net_hdr``).

```
 0  1  flags         1 NEEDS_CSUM: the transport checksum field holds the pseudo-header's plain sum
 1  1  gso_type      what the super-packet is to be cut into
 2  2  hdr_len       length of all headers; on reads a hint, sometimes wrong: ignored
 4  2  gso_size      payload bytes of each segment
 6  2  csum_start    where the transport header begins
 8  2  csum_offset   where in it the checksum lies
```
Numbers are in the machine's own byte order, offsets count bytes from the start of the IP packet.
"""

import struct
from typing import NamedTuple

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket

HEADER_SIZE = 10
NO_OFFLOAD = bytes(HEADER_SIZE)
"""The header of an ordinary packet with finished checksums: 10 zero bytes."""

NEEDS_CSUM = 1

GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80
"""Bit of a TCP type: the first segment carries CWR.

Not requested of the kernel (TUN_F_TSO_ECN), but parsed.
"""

_HEADER = struct.Struct("=BBHHHH")


class VirtioHeader(NamedTuple):
    """The six fields of ``struct virtio_net_hdr``; lengths and offsets in bytes."""

    flags: int
    gso_type: int
    hdr_len: int
    gso_size: int
    csum_start: int
    csum_offset: int

    def encode(self) -> bytes:
        """Encodes the header in 10 bytes."""
        return _HEADER.pack(*self)


def parse_virtio_header(data: Buffer) -> VirtioHeader:
    """Parses the 10 bytes of a header without judging their values.

    Raises MalformedPacket if they are not 10.
    """
    if len(data) != HEADER_SIZE:
        raise MalformedPacket(f"a virtio header has {HEADER_SIZE} bytes, not {len(data)}")
    return VirtioHeader(*_HEADER.unpack(data))
