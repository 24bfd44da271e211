"""The interface's settings: addresses, MTU, routes, up. Netlink by pyroute2, in a worker thread.

pyroute2's blocking API runs an event loop of its own in the calling thread, which must not be trio's thread;
each method therefore opens a netlink socket in a worker thread, does its work there and closes it. A method
is given a wanted state and changes only what differs from it, so calling it again repairs settings that
another process removed.

Two defaults of IPv6 are switched off. Addresses are ``nodad`` (no duplicate address detection): the link has
no other host, and a *tentative* address cannot be used for a second or two. The address generation mode is
``none``: else the kernel makes a link-local address as soon as the interface is up and sends router
solicitations through the tunnel.
"""

import errno
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network
from pathlib import Path
from typing import TypeAlias

import trio
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from coderd.model.errors import Exit, UserError

Address: TypeAlias = IPv4Interface | IPv6Interface
Network: TypeAlias = IPv4Network | IPv6Network

IPV6_MIN_MTU = 1280

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_IFA_F_NODAD = 0x02
_ADDR_GEN_MODE_NONE = 1
_PROTOCOL_STATIC = 4
"""Routing protocol of the routes that are set here (RTPROT_STATIC); the kernel's own have another."""
_TABLE_MAIN = 254
_SCOPE_LINK, _SCOPE_UNIVERSE = 253, 0


class Router:
    """Settings of one interface of this network namespace: addresses, MTU and routes.

    All methods raise UserError without the right (CAP_NET_ADMIN), OSError ENODEV if the interface is gone.

    Args:
        interface: its name; it must exist when a method is called.
        sysctl: the directory of the kernel's settings.
    """

    def __init__(self, interface: str, *, sysctl: Path = Path("/proc/sys")) -> None:
        self._interface = interface
        self._ipv6_settings = sysctl / "net/ipv6/conf" / interface

    async def configure(self, addresses: Iterable[Address], mtu: int) -> None:
        """Sets the interface's addresses, removing all others, and its MTU (bytes), and brings it up.

        Raises: UserError also where an address is IPv6, and the host has no IPv6 or the MTU is below 1280
            (RFC 8200 §5).
        """
        wanted = set(addresses)
        if any(address.version == 6 for address in wanted):
            _check_ipv6_mtu(mtu)
            await trio.to_thread.run_sync(self._enable_ipv6)
        await self._run(lambda link: link.configure(wanted, mtu))

    async def set_routes(self, networks: Iterable[Network]) -> None:
        """Sets the networks that are routed into the interface, which must be up.

        Other routes of ``set_routes`` are removed; routes that the kernel made for addresses stay.
        """
        wanted = set(networks)
        await self._run(lambda link: link.set_routes(wanted))

    async def _run(self, verb: "Callable[[_Link], None]") -> None:
        await trio.to_thread.run_sync(self._run_sync, verb)

    def _run_sync(self, verb: "Callable[[_Link], None]") -> None:
        try:
            with IPRoute() as netlink:
                indexes = netlink.link_lookup(ifname=self._interface)
                if not indexes:
                    raise OSError(errno.ENODEV, f"no interface {self._interface}")
                verb(_Link(netlink, indexes[0]))
        except NetlinkError as error:
            if error.code in (errno.EPERM, errno.EACCES):
                raise _not_permitted(self._interface) from error
            raise OSError(error.code, f"{self._interface}: {error}") from error

    def _enable_ipv6(self) -> None:
        """Switches IPv6 on for this interface alone where the host has it off, as containers often do.

        Raises: UserError.
        """
        switch = self._ipv6_settings / "disable_ipv6"
        try:
            if switch.read_text().strip() != "0":
                switch.write_text("0")
        except OSError as error:
            raise UserError(
                f"IPv6 is switched off on this machine and cannot be switched on for {self._interface}"
                f" ({error.strerror or error})",
                hint=f"Set the sysctl net.ipv6.conf.{self._interface}.disable_ipv6=0, or in a container"
                " net.ipv6.conf.default.disable_ipv6=0 when it is started; IPv6 must not be off in the kernel itself.",
                code="no_ipv6",
            ) from error


class _Link:
    """An interface, set through one netlink socket in the worker thread."""

    def __init__(self, netlink: IPRoute, index: int) -> None:
        self._netlink = netlink
        self._index = index

    def configure(self, wanted: set[Address], mtu: int) -> None:
        if any(address.version == 6 for address in wanted):
            self.change(af_spec={"attrs": [["AF_INET6", _ADDR_GEN_MODE]]})
        self.change(mtu=mtu)
        self.change(state="up")
        for address in self.addresses() - wanted:
            with _gone_already():
                self._address("del", address)
        # Read again: with a primary IPv4 address the kernel takes away the others of its network.
        for address in sorted(wanted - self.addresses(), key=_order):
            self._address("add", address)

    def change(self, **settings: object) -> None:
        self._netlink.link("set", index=self._index, **settings)

    def addresses(self) -> set[Address]:
        return {
            ip_interface(
                (message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"), message["prefixlen"])
            )
            for message in self._netlink.get_addr(index=self._index)
        }

    def routes(self) -> set[Network]:
        return {
            ip_network((message.get_attr("RTA_DST") or _any(family), message["dst_len"]))
            for family in _FAMILIES
            for message in self._netlink.get_routes(family=family, oif=self._index, table=_TABLE_MAIN)
            if message["proto"] == _PROTOCOL_STATIC
        }

    def set_routes(self, wanted: set[Network]) -> None:
        present = self.routes()
        for network in present - wanted:
            with _gone_already():
                self._route("del", network)
        for network in sorted(wanted - present, key=_order):
            self._route("replace", network)

    def _address(self, command: str, address: Address) -> None:
        flags = {"flags": _IFA_F_NODAD} if address.version == 6 and command == "add" else {}
        local = {"local": str(address.ip)} if address.version == 4 else {}
        self._netlink.addr(
            command,
            index=self._index,
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
            **local,
            **flags,
        )

    def _route(self, command: str, network: Network) -> None:
        self._netlink.route(
            command,
            family=_FAMILIES[0] if network.version == 4 else _FAMILIES[1],
            dst=str(network),
            oif=self._index,
            table=_TABLE_MAIN,
            proto=_PROTOCOL_STATIC,
            scope=_SCOPE_LINK if network.version == 4 else _SCOPE_UNIVERSE,
        )


_ADDR_GEN_MODE = {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE]]}


@contextmanager
def _gone_already() -> Iterator[None]:
    """Ignores the error of removing an address or route that another process has removed meanwhile."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in (errno.ESRCH, errno.EADDRNOTAVAIL):
            raise


def _order(item: Address | Network) -> tuple[int, str]:
    return (item.version, str(item))


def _any(family: int) -> str:
    return "0.0.0.0" if family == socket.AF_INET else "::"


def _check_ipv6_mtu(mtu: int) -> None:
    if mtu < IPV6_MIN_MTU:
        raise UserError(
            f"an MTU of {mtu} is too small for IPv6",
            exit_code=Exit.USAGE,
            hint=f"Choose {IPV6_MIN_MTU} or more with --mtu.",
            code="bad_mtu",
        )


def _not_permitted(interface: str) -> UserError:
    return UserError(
        f"configuring the network interface {interface} is not permitted: that needs CAP_NET_ADMIN",
        hint="Run as root, or start the daemon by its systemd unit, which grants the capability.",
        code="not_permitted",
    )
