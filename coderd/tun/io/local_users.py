"""Routing rules by uid that decide which local users may send to the tailnet.

For each range of users that may not, one rule ``to fd60:627a:a42b::/48 iif lo uidrange A-B prohibit`` stands
before all routes but those to this machine itself; a refused program gets EACCES. A socket's user is the one
that opened it; packets without a socket (resets, ICMP) are sent as uid 0. Rules apply to all interfaces of
the network namespace, but not to forwarded packets, which have no user.
"""

import errno
import os
import socket
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import structlog
import trio
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from coderd.model.addresses import TAILNET_PREFIX
from coderd.model.errors import UserError

LAST_UID: Final = 2**32 - 2
"""The greatest uid: 2^32 - 1 is the kernel's invalid uid."""
_PRIORITIES = range(1000, 2000)
_PROTOCOL = 203
"""Routing protocol number that marks this module's rules (RTPROT_*); assigned to no other program."""
_PROHIBIT = "FR_ACT_PROHIBIT"

log = structlog.get_logger(__name__)


class _Rule(NamedTuple):
    """A rule that prohibits the tailnet to users: its priority, and their range as ``first:last``."""

    priority: int
    uids: str

    def change(self, netlink: IPRoute, command: str) -> None:
        netlink.rule(
            command,
            family=socket.AF_INET6,
            priority=self.priority,
            dst=str(TAILNET_PREFIX.network_address),
            dst_len=TAILNET_PREFIX.prefixlen,
            iifname="lo",
            uid_range=self.uids,
            action=_PROHIBIT,
            protocol=_PROTOCOL,
        )


def excluded(allowed: Iterable[int]) -> list[tuple[int, int]]:
    """Returns the ranges of uids, first and last each, that the allowed ones leave over."""
    ranges, first = [], 0
    for uid in sorted(set(allowed)):
        if first < uid:
            ranges.append((first, uid - 1))
        first = uid + 1
    if first <= LAST_UID:
        ranges.append((first, LAST_UID))
    return ranges


@asynccontextmanager
async def only_users(interface: str, allowed: frozenset[int] | None) -> AsyncIterator[None]:
    """Lets only the allowed users, root and the daemon's own user send to the tailnet, until the block ends.

    Rules that a killed daemon with this interface has left are removed first.

    Args:
        interface: the tunnel's name, which chooses the rules' priority.
        allowed: uids; None allows every user.

    Raises:
        UserError: the rules cannot be set; every user may then send as before.
    """
    wanted = excluded(allowed | {0, os.geteuid()}) if allowed is not None else []
    try:
        await trio.to_thread.run_sync(_set, interface, wanted)
    except (NetlinkError, OSError) as error:
        if allowed is not None:
            raise _cannot(error) from error
    try:
        yield
    finally:
        if wanted:
            with trio.CancelScope(shield=True):
                try:
                    await trio.to_thread.run_sync(_set, interface, [])
                except (NetlinkError, OSError) as error:
                    log.warning("rules for local users stay", interface=interface, error=str(error))


def _set(interface: str, wanted: list[tuple[int, int]]) -> None:
    """Replaces an interface's rules by the wanted ranges.

    Raises NetlinkError, OSError; no rule is left then.
    """
    priority = _PRIORITIES[zlib.crc32(interface.encode()) % len(_PRIORITIES)]
    rules = {_Rule(priority, f"{first}:{last}") for first, last in wanted}
    with IPRoute() as netlink:
        present = _present(netlink, priority)
        try:
            for rule in rules - present:
                rule.change(netlink, "add")
            for rule in present - rules:
                rule.change(netlink, "del")
            if _present(netlink, priority) != rules:
                raise OSError(errno.EOPNOTSUPP, "the kernel does not keep rules by user")
        except BaseException:
            for rule in _present(netlink, priority):
                rule.change(netlink, "del")
            raise


def _present(netlink: IPRoute, priority: int) -> set[_Rule]:
    return {
        _Rule(priority, message.get_attr("FRA_UID_RANGE") or "")
        for message in netlink.get_rules(family=socket.AF_INET6)
        if message.get_attr("FRA_PRIORITY") == priority and message.get_attr("FRA_PROTOCOL") == _PROTOCOL
    }


def _cannot(error: NetlinkError | OSError) -> UserError:
    number = error.code if isinstance(error, NetlinkError) else error.errno or 0
    if number in (errno.EPERM, errno.EACCES):
        why, hint = "that needs CAP_NET_ADMIN", "Run as root, or by the systemd unit, which grants it."
    else:
        why = os.strerror(number) if number in errno.errorcode else str(error)
        hint = "The kernel needs IPv6 with policy routing (CONFIG_IPV6_MULTIPLE_TABLES); else leave --local-users out."
    return UserError(
        f"which local users may send into the tunnel cannot be set: {why}", hint=hint, code="no_local_users"
    )
