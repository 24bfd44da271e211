"""The TUN interface of a tunnel: super-packets (GSO, GRO) to and from the kernel, addresses, routes, MTU.

virtio          the 10-byte header in front of every read and write
split           cuts one read, perhaps a super-packet of 64 KiB, into finished packets
coalesce        merges packets of one batch into super-packets, one ``writev`` each
io/device       the TUN device, non-blocking
io/link         the link's state as other processes set it: up or down, MTU
io/local_users  routing rules that keep local users out of the tunnel
io/router       the interface's addresses, routes and MTU
"""

from coderd.tun.coalesce import coalesce
from coderd.tun.split import split

__all__ = ["coalesce", "split"]
