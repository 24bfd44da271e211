"""The state of an interface's link, as other processes set it: up or down, and its MTU.

Ioctls read the state; a netlink socket wakes the reader when it may have changed. The content of netlink
events is discarded unparsed, so this module needs no netlink library.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import trio

from coderd.tun.io.device import TunDevice

ELSEWHERE_INTERVAL = 1.0
"""Seconds between looks at an interface in another network namespace, which sends no events to this one."""

_RTMGRP_LINK, _RTMGRP_IPV4_ROUTE, _RTMGRP_IPV6_ROUTE = 0x1, 0x40, 0x400
_TUNGETIFF = 0x800454D2
_SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCSIFMTU = 0x8913, 0x8921, 0x8922
_IFF_UP = 0x1
_IFREQ = struct.Struct("=16si20x")
_EVENT_SIZE = 65536
_MOST_EVENTS = 256


class LinkState(NamedTuple):
    """Whether an interface is up, and its MTU in bytes."""

    is_up: bool
    mtu: int


def prepare_link(interface: str, mtu: int) -> None:
    """Sets the MTU (bytes), and IPv6's address generation mode to ``none``.

    In that mode the kernel makes no link-local address and sends no router solicitations through the tunnel.

    Raises: OSError if the MTU cannot be set.
    """
    _interface_ioctl(_SIOCSIFMTU, interface, mtu)
    with suppress(OSError):  # a host without IPv6
        Path("/proc/sys/net/ipv6/conf", interface, "addr_gen_mode").write_text("1\n", encoding="ascii")


async def watch_link(tun: TunDevice) -> AsyncIterator[LinkState]:
    """Yields the link's state now, then after each change, until the interface is deleted.

    Renaming the interface or moving it to another network namespace is followed. Raises OSError.
    """
    events = _subscribe(_RTMGRP_LINK)
    with events:
        seen: LinkState | None = None
        while True:
            try:
                state, is_elsewhere = _look(tun, seen)
            except OSError as error:
                if error.errno == errno.EBADFD:
                    return
                raise
            if state != seen:
                seen = state
                yield state
            with trio.move_on_after(ELSEWHERE_INTERVAL if is_elsewhere else float("inf")):
                await trio.lowlevel.wait_readable(events)
            discard_events(events)


async def watch_routes() -> AsyncIterator[None]:
    """Yields after each change of this host's IPv4 or IPv6 routes; changes in quick succession may be one."""
    events = _subscribe(_RTMGRP_IPV4_ROUTE | _RTMGRP_IPV6_ROUTE)
    with events:
        while True:
            await trio.lowlevel.wait_readable(events)
            discard_events(events)
            yield


def _look(tun: TunDevice, seen: LinkState | None) -> tuple[LinkState, bool]:
    """Returns the link's state, and whether the interface is in another network namespace.

    There its name leads nowhere: an empty write tells whether it is up (EIO if not), and the MTU is the last
    one seen. Raises OSError: EBADFD when the interface has been deleted.
    """
    request = fcntl.ioctl(tun.fileno(), _TUNGETIFF, bytes(_IFREQ.size))
    name = request[:16].split(b"\0", 1)[0].decode()
    try:
        flags = _interface_ioctl(_SIOCGIFFLAGS, name) & 0xFFFF
        return LinkState(bool(flags & _IFF_UP), _interface_ioctl(_SIOCGIFMTU, name)), False
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
    try:
        os.write(tun.fileno(), b"")
    except OSError as error:
        if error.errno == errno.EBADFD:
            raise
        return LinkState(error.errno != errno.EIO, seen.mtu if seen is not None else 0), True
    return LinkState(True, seen.mtu if seen is not None else 0), True


def _interface_ioctl(request: int, interface: str, value: int = 0) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        reply = fcntl.ioctl(sock, request, _IFREQ.pack(interface.encode(), value))
    number: int = _IFREQ.unpack(reply)[1]
    return number


def _subscribe(groups: int) -> socket.socket:
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    events.setblocking(False)
    events.bind((0, groups))
    return events


def discard_events(events: socket.socket) -> None:
    """Reads and discards the netlink events that wait in a socket, at most 256.

    ENOBUFS (the kernel has dropped events) is ignored: the caller looks at the state itself. Raises OSError.
    """
    for _ in range(_MOST_EVENTS):
        try:
            events.recv(_EVENT_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
