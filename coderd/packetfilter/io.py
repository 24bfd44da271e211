"""Reads the settings of this host's kernel that the packet filter needs."""

from pathlib import Path

from coderd.packetfilter.filter import LINUX_EPHEMERAL

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Linux's range of ephemeral ports, for IPv6 too in spite of its name."""


def ephemeral_ports() -> tuple[int, int]:
    """Returns the kernel's ephemeral port range, both ends included; Linux's default if it is unreadable."""
    try:
        first, last = map(int, _RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return LINUX_EPHEMERAL
    return first, last
