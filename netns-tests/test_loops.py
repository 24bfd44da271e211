"""Nobody's loops.

With another tunnel as the host's default route, our datagrams enter neither that one nor our own.

::

    user ──────────── core ──────────── dev
      wg0: all of the internet            │
      through the gateway of a VPN     gateway (wireguard-go)

Counted on the user's host, where its own packets leave.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab import Host, Lab, Node, until
from tunnels import End, at, outer_addresses, start_theirs

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(120)]

QUICK = """\
[Interface]
PrivateKey = {private}
Address = 10.99.0.1/24, fd00:99::1/64

[Peer]
PublicKey = {peer}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = {endpoint}
"""
COUNTED = """
table inet counted {{
    counter in_ours {{}}
    counter in_theirs {{}}
    counter outside {{}}
    chain postrouting {{
        type filter hook postrouting priority filter
        meta l4proto udp udp sport {port} oifname "{ours}" counter name in_ours
        meta l4proto udp udp sport {port} oifname "wg0" counter name in_theirs
        meta l4proto udp udp sport {port} oifname "eth0" counter name outside
    }}
}}"""
MASQUERADE = """
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat
        ip saddr 10.99.0.0/24 oifname "eth0" masquerade
    }
}"""


NO_OTHER_WAY = """
table inet shut {
    chain output {
        type filter hook output priority filter
        tcp dport 3000 oifname "eth0" drop
    }
}"""
OUTSIDE, INSIDE = ["198.51.100.2"] * 2, ["10.99.0.1"] * 2
"""The source addresses of the link to the server and of that to its relay."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("no-nat") as lab:
        yield lab


def offer_vpn(lab: Lab) -> None:
    """A gateway to everywhere for the user's host, and wg-quick's configuration of it there."""
    gateway = lab.add_host("gateway")
    ours, theirs = End(lab.user.host, "wg0", 0), End(gateway, "wg0", 1)
    (theirs.outer,) = outer_addresses(gateway, 4)
    gateway.sysctl(ipv4__ip_forward=1)
    gateway.nft(MASQUERADE)
    start_theirs(gateway, "wg0")
    theirs.configure(ours)
    theirs.up()
    directory = lab.user.host.path("/etc/wireguard")
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "wg0.conf").write_text(
        QUICK.format(private=ours.private, peer=theirs.public, endpoint=at(theirs.outer))
    )


def quick(host: Host, verb: str, *, by: str = "wireguard-go") -> None:
    host.run(["wg-quick", verb, "wg0"], env={"WG_QUICK_USERSPACE_IMPLEMENTATION": by}, timeout=60)


def counters(host: Host) -> dict[str, int]:
    listing = json.loads(host.run(["nft", "-j", "list", "counters"]).stdout)["nftables"]
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listing if "counter" in entry}


def count(lab: Lab) -> None:
    status = lab.user.status()
    assert status is not None
    lab.user.host.nft(COUNTED.format(port=status["udp_port"], ours=lab.user.interface))


@contextmanager
def network_changing(node: Node) -> Iterator[None]:
    """What happens within is known to the node afterwards.

    It looks as soon as the kernel tells, which is not at once.
    """
    daemon = node.daemon
    assert daemon is not None
    n_changes = daemon.output.count("network changed")
    yield
    until(lambda: daemon.output.count("network changed") > n_changes, "the change to be seen", timeout=5)


def to_server(lab: Lab) -> list[str]:
    """The addresses that the user's host has connections to the server from, of those that stay."""
    listing = lab.user.host.run(["ss", "-Htn", "state", "established", "dport", "=", ":3000"]).stdout
    return [line.split()[2].rpartition(":")[0] for line in listing.splitlines()]


def way_to(host: Host, address: str) -> str:
    return host.run(["ip", "route", "get", address]).stdout


def test_a_full_tunnel_that_comes_up_takes_everything_but_our_datagrams(lab: Lab) -> None:
    offer_vpn(lab)
    lab.join()
    lab.user.wait_for_path("dev", "direct")
    with network_changing(lab.user):
        quick(lab.user.host, "up")
    count(lab)
    assert "dev wg0" in way_to(lab.user.host, "203.0.113.2")
    lab.user.json("netcheck")
    lab.user.coderctl("ping", "dev", "-c", "10", "-i", "50ms", "--until-direct")
    lab.user.wait_for_path("dev", "direct")
    lab.user.host.run(["ping", "-c", "20", "-i", "0.01", lab.dev.address])
    seen = counters(lab.user.host)
    assert (seen["in_ours"], seen["in_theirs"]) == (0, 0)
    assert seen["outside"] >= 20
    peer = lab.dev.peer("admin/user")
    assert peer is not None
    assert peer["path"]["via"].startswith("198.51.100.2:")
    for node in (lab.user, lab.dev):
        assert not any(
            "10.99.0." in addr or "fd00:99:" in addr for addr in (node.status() or {})["endpoints"]
        )
    quick(lab.user.host, "down")
    lab.user.coderctl("ping", "dev", "-c", "10", "-i", "50ms", "--until-direct")


def test_a_full_tunnel_that_is_there_before_us_gets_none_of_our_datagrams(lab: Lab) -> None:
    offer_vpn(lab)
    quick(lab.user.host, "up", by="coderd-wireguard")
    lab.user.host.nft(COUNTED.format(port=41641, ours=lab.user.interface))
    lab.join()
    lab.user.wait_for_path("dev", "direct")
    until(lambda: counters(lab.user.host)["outside"] > 0, "our datagrams to leave")
    seen = counters(lab.user.host)
    assert (seen["in_ours"], seen["in_theirs"]) == (0, 0)
    assert lab.user.json("why", "dev")["causes"] == []
    until(lambda: to_server(lab) == OUTSIDE, "links to the server and its relay that go past the tunnel")
    lab.user.host.nft(NO_OTHER_WAY)
    lab.user.coderctl("debug", "break-server")
    lab.user.coderctl("debug", "break-relay")
    until(lambda: to_server(lab) == INSIDE, "links through the tunnel, where there is no other way")
