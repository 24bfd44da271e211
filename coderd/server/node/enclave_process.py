"""Program that makes a network namespace with a TUN, then hands out TCP sockets that live in it.

Imports only the standard library, to stay small: it lives as long as the server. In its user namespace it may
be unable to read the files that it could read before, so everything is imported before.

    argv       NAME ADDRESS PREFIX-LENGTH MTU
    fd 0       a Unix socket to the server; each message carries one descriptor:
               {"offloads": bits} with the TUN, then repeatedly "s" with a new TCP socket;
               or, at the end, {"step": ..., "errno": ...} without a descriptor

The server sends no requests: the Unix socket is a queue of sockets, and ``sendmsg`` blocks while it is full.
When the server ends, ``sendmsg`` fails, this process ends, and with it the namespace.
"""

import array  # noqa: F401  # for socket.send_fds, which would import it late
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
CSUM, TSO4, TSO6, USO4, USO6 = 0x01, 0x02, 0x04, 0x20, 0x40
OFFLOADS = (CSUM | TSO4 | TSO6 | USO4 | USO6, CSUM | TSO4 | TSO6, 0)

SIOCSIFFLAGS, SIOCSIFMTU, SIOCGIFINDEX = 0x8914, 0x8922, 0x8933
IFF_UP = 0x1
RTM_NEWADDR, IFA_LOCAL, IFA_F_NODAD = 20, 2, 0x02
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400

KEPT_READY = 4096
"""Send buffer in bytes: room for a few sockets that are made ahead."""


def main() -> int:
    """Makes the namespace and hands out sockets until the server ends; returns the exit status.

    A step that fails is reported to the server.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is meant for the server, which then closes its end
    channel = socket.socket(fileno=0)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KEPT_READY)
    step = "namespace"
    try:
        enter_namespace()
        step = "tun"
        tun, offloads = open_tun(sys.argv[1])
        step = "address"
        configure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        step = "server"
        socket.send_fds(channel, [json.dumps({"offloads": offloads}).encode()], [tun])
        os.close(tun)
        while True:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
                socket.send_fds(channel, [b"s"], [sock.fileno()])
    except OSError as error:
        if step != "server":
            channel.send(json.dumps({"step": step, "errno": error.errno}).encode())
    return 0


def enter_namespace() -> None:
    """Enters a new network namespace, within a new user namespace if that is permitted. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
    except OSError:
        unshare(CLONE_NEWNET)
        return
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        write(f"/proc/self/{file}", text)


def write(path: str, text: str) -> None:
    """Writes text to a file without a codec, which ``open()`` would import. Raises OSError."""
    opened = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(opened, text.encode())
    finally:
        os.close(opened)


def unshare(flags: int) -> None:
    """Enters new namespaces: ``os.unshare``, which Python has from 3.12 on. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def open_tun(name: str) -> tuple[int, int]:
    """Returns the descriptor of a new TUN, and the offloads that the kernel granted. Raises OSError."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    for offloads in OFFLOADS:
        try:
            fcntl.ioctl(tun, TUNSETOFFLOAD, offloads)
        except OSError:
            continue
        return tun, offloads
    return tun, 0


def configure(name: str, address: str, prefix_length: int, mtu: int) -> None:
    """Sets a TUN's MTU and its address with the prefix's route, and brings it up. Raises OSError."""
    with contextlib.suppress(OSError):  # where /proc/sys is read-only, the kernel sends a few useless packets
        # No address of the kernel's own making, and no router solicitations.
        write(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode", "1")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFMTU, struct.pack("16si20x", name.encode(), mtu))
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), IFF_UP))
        index = struct.unpack(
            "16si20x", fcntl.ioctl(sock, SIOCGIFINDEX, struct.pack("16s24x", name.encode()))
        )[1]
    add_address(index, socket.inet_pton(socket.AF_INET6, address), prefix_length)


def add_address(index: int, packed: bytes, prefix_length: int) -> None:
    """Adds an IPv6 address that is usable at once (IFA_F_NODAD). Raises OSError.

    Without the flag, connect() fails with EADDRNOTAVAIL until a kernel worker has run, as seen on busy
    machines. Netlink, because the ioctl that adds addresses takes no flags.
    """
    attribute = struct.pack("=HH16s", 4 + len(packed), IFA_LOCAL, packed)
    body = struct.pack("=BBBBI", socket.AF_INET6, prefix_length, IFA_F_NODAD, 0, index) + attribute
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(body), RTM_NEWADDR, flags, 1, 0) + body)
        (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    if error:
        raise OSError(-error, os.strerror(-error))


if __name__ == "__main__":
    sys.exit(main())
