"""What the packet filter wants to know of this host's kernel."""

from pathlib import Path

from coderd.packetfilter.filter import LINUX_EPHEMERAL

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Of IPv6 too, whatever its name says."""


def ephemeral_ports() -> tuple[int, int]:
    """First and last of the ports that the kernel gives to sockets that connect; Linux's defaults where it does not say."""
    try:
        first, last = map(int, _RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return LINUX_EPHEMERAL
    return first, last
