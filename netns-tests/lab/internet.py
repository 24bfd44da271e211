"""The internet of a laboratory: a routed core, and sites around it.

::

                       server 192.0.2.10 (and .11)
                              │
      198.51.100.2       ┌────┴────┐        203.0.113.2
   ┌──[ router ]─────────┤  core   ├──────────[ router ]──┐
   │  NAT, firewall      └────┬────┘      NAT, firewall   │
   │ 10.0.1.0/24              │               10.0.2.0/24 │
  user 10.0.1.2          198.18.x.2              dev 10.0.2.2
                       guests, by add_host

A site with a second NAT has its provider's router between its own and the core, with ``198.51.100.2`` or
``203.0.113.2``.

With IPv6: the server at 2001:db8:0:1::10, the routers in 2001:db8:0:2::/64 and 2001:db8:0:3::/64, the sites'
LANs 2001:db8:1::/64 and 2001:db8:2::/64. A site without router has its host in the router's place. The core
forwards between the sites and knows no way to private addresses.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lab.gate import stand_before
from lab.host import Host
from lab.nat import INPUT, ruleset, translation
from lab.realm import Realm
from lab.relay import Relay
from lab.topology import Family, Gate, Nat, Site, Topology

SiteName = Literal["user", "dev"]


@dataclass(frozen=True)
class Net:
    """A subnet with fixed places: ``.1`` is the way out, hosts follow."""

    prefix: str
    """All but the last number: ``192.0.2.`` or ``2001:db8:1::``."""
    bits: int

    def at(self, place: int) -> str:
        """The bare address at a place."""
        return f"{self.prefix}{place:x}" if ":" in self.prefix else f"{self.prefix}{place}"

    def interface(self, place: int) -> str:
        """The same with its prefix length."""
        return f"{self.at(place)}/{self.bits}"

    @property
    def default(self) -> str:
        """The route to everywhere from here."""
        return f"route add {'::/0' if ':' in self.prefix else '0.0.0.0/0'} via {self.at(1)}"


Nets = Sequence[tuple[Net, tuple[int, ...]]]
"""Nets of a link, at most one of a family, and the places that its far end takes in each."""

SERVER_NET: dict[Family, Net] = {4: Net("192.0.2.", 24), 6: Net("2001:db8:0:1::", 64)}
WAN: dict[SiteName, dict[Family, Net]] = {
    "user": {4: Net("198.51.100.", 24), 6: Net("2001:db8:0:2::", 64)},
    "dev": {4: Net("203.0.113.", 24), 6: Net("2001:db8:0:3::", 64)},
}
LAN: dict[SiteName, dict[Family, Net]] = {
    "user": {4: Net("10.0.1.", 24), 6: Net("2001:db8:1::", 64)},
    "dev": {4: Net("10.0.2.", 24), 6: Net("2001:db8:2::", 64)},
}
BEHIND_GATE = Net("192.168.7.", 24)
SERVER_PLACES: dict[Family, tuple[int, int]] = {4: (10, 11), 6: (0x10, 0x11)}


class Internet:
    """The core, the server's link, and the sites' routers; hosts are attached to it."""

    def __init__(self, realm: Realm, topology: Topology) -> None:
        self.family: Family = topology.family
        self.families: list[Family] = [topology.family]
        if topology.second is not None:
            self.families.append(topology.second)
        self.routers: dict[SiteName, Host] = {}
        self.providers: list[Host] = []
        self._realm = realm
        self._places: dict[SiteName, int] = {}
        self._guests = 0
        self.core = Host(realm, "core")
        self._forward(self.core)
        if topology.second is not None and not topology.second_works:
            self.core.nft(LOST.format(family=topology.second))
        self.server = Host(realm, "server")
        places = SERVER_PLACES[self.family]
        self.server_address, self.second_server_address = (
            SERVER_NET[self.family].at(place) for place in places
        )
        nets = [(SERVER_NET[family], SERVER_PLACES[family]) for family in self.families]
        self.gate: Host | None = None
        if topology.service.gate == "none":
            self._attach(self.server, "server", nets)
        else:
            self.gate = self._add_gate(topology.service.gate, nets)

    @property
    def hosts(self) -> list[Host]:
        """The machines that the internet itself is made of."""
        gates = [self.gate] if self.gate is not None else []
        return [self.core, self.server, *gates, *self.providers, *self.routers.values()]

    def _add_gate(self, kind: Gate, nets: Nets) -> Host:
        """What stands at the server's public address, and the server behind it."""
        gate = Host(self._realm, "gate")
        self._forward(gate)
        self._attach(gate, "server", nets, interface="wan")
        self._cable(gate, self.server, "lan", "eth0", [(BEHIND_GATE, (2,))])
        stand_before(BEHIND_GATE.at(2), gate, kind, self.server_address)
        return gate

    def add_site(self, name: SiteName, site: Site, host_name: str) -> Host:
        """A site and its first host."""
        nets = [(WAN[name][family], (2,)) for family in self.families]
        if not site.has_router:
            host = Host(self._realm, host_name)
            self._attach(host, name, nets)
            return host
        router = self.routers[name] = Host(self._realm, f"router-{name}")
        self._forward(router)
        self._route_between_ports(router)
        outer = WAN[name][4].at(2)
        if site.upstream is None:
            self._attach(router, name, nets, interface="wan", mtu=site.mtu)
        else:
            between = Net(site.upstream_net, 24)
            provider = self._add_provider(name, site.upstream, between)
            self._cable(provider, router, "lan", "wan", [(between, (2,))])
            outer = between.at(2)
        lans = [LAN[name][family] for family in self.families]
        router.ip(
            "link add name lan type bridge",
            "link set lan addrgenmode none",
            "link set lan up",
            *(command for lan in lans for command in self._addresses("lan", lan, (1,))),
        )
        router.nft(ruleset(site, outer))
        for family, lan in zip(self.families, lans, strict=True):
            if site.nat is None or family == 6:  # its addresses are real ones: the core knows the way to them
                self.core.ip(f"route add {lan.at(0)}/{lan.bits} via {WAN[name][family].at(2)}")
        self._places[name] = 2
        return self.add_host(name, host_name, isolated=site.isolates)

    def change_router(self, name: SiteName, site: Site) -> None:
        """Give a site's router other rules, and let it forget all that passed it.

        Links and addresses stay.
        """
        router = self.routers[name]
        router.nft("flush ruleset\n" + ruleset(site, WAN[name][4].at(2)))
        router.run(["conntrack", "-F"])

    def _add_provider(self, name: SiteName, nat: Nat, between: Net) -> Host:
        """The router of a site's provider, in the site's place, ready for the site's own behind it."""
        provider = Host(self._realm, f"provider-{name}")
        self.providers.append(provider)
        self._forward(provider)
        self._attach(provider, name, [(WAN[name][4], (2,))], interface="wan")
        provider.nft(INPUT + "\n" + translation(nat, WAN[name][4].at(2)))
        return provider

    def add_host(self, site: SiteName | None, name: str, *, isolated: bool = False) -> Host:
        """One more host: on a site's LAN, or (None) a guest with a public address of its own.

        Args:
            site: whose LAN.
            name: its host name.
            isolated: from the other isolated hosts of that LAN.
        """
        host = Host(self._realm, name)
        if site is None:
            self._guests += 1
            nets = [(self._guest_net(family), (2,)) for family in self.families]
            self._attach(host, f"guest{self._guests}", nets)
            return host
        place = self._places[site]
        self._places[site] += 1
        port = f"port{place}"
        isolate = [f"link set {port} type bridge_slave isolated on"] if isolated else []
        self.routers[site].ip(
            f"link add name {port} type veth peer name eth0 netns {host.pid}",
            f"link set {port} master lan addrgenmode none",
            *isolate,
            f"link set {port} up",
        )
        self._address(host, "eth0", [(LAN[site][family], (place,)) for family in self.families])
        return host

    def add_relay(self, number: int) -> Relay:
        """A guest that is to be a relay, and that relay, not yet started."""
        host = self.add_host(None, f"relay-{number}")
        return Relay(host, number, self._guest_net(self.family).at(2))

    def _guest_net(self, family: Family) -> Net:
        """The newest guest's."""
        number = self._guests
        return Net(f"198.18.{number}.", 24) if family == 4 else Net(f"2001:db8:f:{number:x}::", 64)

    def _attach(self, host: Host, port: str, nets: Nets, *, interface: str = "eth0", mtu: int = 1500) -> None:
        self._cable(self.core, host, f"to-{port}", interface, nets, mtu=mtu)

    def _cable(
        self, near: Host, far: Host, port: str, interface: str, nets: Nets, *, mtu: int = 1500
    ) -> None:
        """A link from a router, which has place 1 of each net there, to whom it routes for."""
        near.ip(
            f"link add name {port} mtu {mtu} type veth peer name {interface} mtu {mtu} netns {far.pid}",
            f"link set {port} addrgenmode none",
            f"link set {port} up",
            *(command for net, _ in nets for command in self._addresses(port, net, (1,))),
        )
        self._address(far, interface, nets)

    def _address(self, host: Host, interface: str, nets: Nets) -> None:
        host.ip(
            f"link set {interface} addrgenmode none",
            f"link set {interface} up",
            *(command for net, places in nets for command in self._addresses(interface, net, places)),
            *(net.default for net, _ in nets),
        )

    @staticmethod
    def _addresses(interface: str, net: Net, places: tuple[int, ...]) -> list[str]:
        # nodad: an address is else tentative for two seconds. A link-local one, since who forwards for others
        # asks for neighbours from it; none where IPv6 is not what the topology is about.
        wanted = [net.interface(place) for place in places]
        if ":" in net.prefix:
            wanted.append(f"fe80::{places[0]:x}/64")
        return [f"address add {address} dev {interface} nodad" for address in wanted]

    @staticmethod
    def _forward(host: Host) -> None:
        host.sysctl(
            ipv4__ip_forward=1,
            ipv6__conf__all__forwarding=1,
            ipv4__conf__all__rp_filter=0,
            ipv4__conf__default__rp_filter=0,
            ipv4__conf__all__send_redirects=0,
            ipv4__conf__default__send_redirects=0,
        )

    @staticmethod
    def _route_between_ports(router: Host) -> None:
        """Keep a bridge out of IP's hooks, where the machine has br_netfilter loaded.

        It would else run prerouting itself, and what that turns around to a host of the same LAN it would
        bridge there at once, past the router's forwarding and into the isolation of the ports.
        """
        with router.network():
            for hook in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"):
                hook.write_text("0\n", encoding="ascii")

    # ---- holding UDP back

    def hold_udp(self, *, to_server_too: bool = False) -> None:
        """Drop UDP between the sites, on their way through the core or across a LAN, until `release_udp`.

        Args:
            to_server_too: also between the sites and the server, so that nothing but TCP leaves a site.
        """
        far = "" if to_server_too else 'iifname != "to-server" oifname != "to-server" '
        self.core.nft(HOLD.format(family="inet", match=far))
        for router in self.routers.values():
            router.nft(HOLD.format(family="bridge", match=""))

    def release_udp(self) -> None:
        """Let UDP pass again."""
        self.core.nft(RELEASE.format(family="inet"))
        for router in self.routers.values():
            router.nft(RELEASE.format(family="bridge"))

    @contextmanager
    def udp_held(self, *, to_server_too: bool = False) -> Iterator[None]:
        """`hold_udp` and `release_udp` as a ``with``."""
        self.hold_udp(to_server_too=to_server_too)
        try:
            yield
        finally:
            self.release_udp()

    @property
    def stopped_datagrams(self) -> int:
        """How many datagrams the hold in the core and the sites' own firewalls have stopped.

        A count above zero proves that a program tried.

        Releasing the hold sets its count to zero.
        """
        return self._packets(self.core, "held") + sum(
            self._packets(router, "stopped") for router in self.routers.values()
        )

    @staticmethod
    def _packets(host: Host, name: str) -> int:
        return sum(counter["packets"] for counter in _counters(host) if counter["name"] == name)

    # ---- what passed the server

    def watch_server_link(self) -> None:
        """Start counting the bytes that go through the server's link; again sets the counts to zero."""
        self.core.nft(WATCH)

    @property
    def server_link_bytes(self) -> int:
        """Bytes both ways over the server's link since `watch_server_link`."""
        return sum(counter["bytes"] for counter in _counters(self.core) if counter["name"] == "server")


def _counters(host: Host) -> list[dict[str, Any]]:
    listing = json.loads(host.run(["nft", "-j", "list", "counters"]).stdout)
    return [entry["counter"] for entry in listing["nftables"] if "counter" in entry]


RELEASE = """
table {family} hold {{}}
delete table {family} hold
"""  # the first line so that there is something to delete: nft learned "destroy" only lately

HOLD = (
    RELEASE
    + """
table {family} hold {{
    counter held {{}}
    chain forward {{
        type filter hook forward priority -10
        {match}meta l4proto udp counter name held drop
    }}
}}"""
)

LOST = """
table inet lost {{
    chain forward {{
        type filter hook forward priority -30
        meta nfproto ipv{family} drop
    }}
}}"""

WATCH = """
table inet watch {}
delete table inet watch
table inet watch {
    counter server {}
    chain forward {
        type filter hook forward priority -20
        iifname "to-server" counter name server
        oifname "to-server" counter name server
    }
}"""
