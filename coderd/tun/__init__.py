"""The network interface of a tunnel: super-packets in and out of the kernel, and the interface's settings.

virtio      the 10-byte header in front of every read and write
split       one read, perhaps a super-packet of 64 KiB, into finished packets
coalesce    packets of one batch into super-packets again, one ``writev`` each
io/device   the TUN itself, non-blocking
io/router   its addresses, routes and MTU
"""

from coderd.tun.coalesce import coalesce
from coderd.tun.split import split

__all__ = ["coalesce", "split"]
