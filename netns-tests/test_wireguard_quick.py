"""``wg-quick up`` with coderd-wireguard for its userspace implementation, against a stock wireguard-go.

::

    user ─────────────── core ─────────────── dev
      wg0 (wg-quick, coderd-wireguard)          wg0 (wireguard-go)
      10.99.0.1, fd00:99::1                     10.99.0.2, fd00:99::2
"""

from collections.abc import Iterator

import pytest
from lab import Lab, until
from tunnels import NO_ANSWERS, PORT, End, at, daemon_behind, outer_addresses, start_theirs, tun_flags

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow]

QUICK = {"WG_QUICK_USERSPACE_IMPLEMENTATION": "coderd-wireguard"}
IFF_TUN, IFF_VNET_HDR = 0x0001, 0x4000
CONFIG = """\
[Interface]
PrivateKey = {private}
ListenPort = {port}
Address = {addresses}
{interface}

[Peer]
PublicKey = {peer}
AllowedIPs = {allowed}
Endpoint = {endpoint}
"""


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[End, End]]:
    with Lab(NO_ANSWERS[request.param]) as lab:
        ours, theirs = End(lab.user.host, "wg0", 0), End(lab.dev.host, "wg0", 1)
        for end in (ours, theirs):
            (end.outer,) = outer_addresses(end.host, request.param)
        start_theirs(theirs.host, "wg0")
        theirs.configure(ours)
        theirs.up()
        yield ours, theirs


def write_config(ours: End, theirs: End, *, allowed: str, interface: str = "") -> None:
    directory = ours.host.path("/etc/wireguard")
    directory.mkdir(mode=0o700, exist_ok=True)
    file = directory / "wg0.conf"
    file.touch(mode=0o600)
    file.write_text(
        CONFIG.format(
            private=ours.private,
            port=PORT,
            addresses="10.99.0.1/24, fd00:99::1/64",
            interface=interface,
            peer=theirs.public,
            allowed=allowed,
            endpoint=at(theirs.outer),
        )
    )


def quick(ours: End, verb: str) -> None:
    ours.host.run(["wg-quick", verb, "wg0"], env=QUICK, timeout=60)


def test_up_and_down_with_traffic_both_ways_and_it_is_really_ours(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    write_config(ours, theirs, allowed="10.99.0.2/32, fd00:99::2/128", interface="MTU = 1380")
    quick(ours, "up")
    assert tun_flags(ours.host, "wg0") & (IFF_TUN | IFF_VNET_HDR) == IFF_TUN | IFF_VNET_HDR
    pid, command = daemon_behind(ours.host, "wg0")
    assert any(word.endswith("/coderd-wireguard") for word in command)
    assert ours.host.path("/sys/class/net/wg0/mtu").read_text() == "1380\n"
    for family in (4, 6):
        ours.ping(theirs, family)
        theirs.ping(ours, family)
    quick(ours, "down")
    until(lambda: not _is_alive(pid), "our daemon to end", timeout=5)
    assert not ours.host.path("/run/wireguard/wg0.sock").exists()
    assert not ours.host.path("/sys/class/net/wg0").exists()


def test_a_default_route_through_the_tunnel_does_not_swallow_the_tunnel(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    write_config(ours, theirs, allowed="0.0.0.0/0, ::/0")
    theirs.host.ip("address add 192.0.2.99/32 dev lo", "address add 2001:db8:99::1/128 dev lo nodad")
    quick(ours, "up")
    assert ours.wg("show", "wg0", "fwmark").strip() == hex(PORT)
    for address in ("192.0.2.99", "2001:db8:99::1"):
        ours.host.run(["ping", "-c", "3", "-i", "0.1", "-W", "5", address])
    theirs.ping(ours)
    quick(ours, "down")


def test_up_again_and_again(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    write_config(ours, theirs, allowed="10.99.0.2/32, fd00:99::2/128")
    for _ in range(3):
        quick(ours, "up")
        ours.ping(theirs)
        quick(ours, "down")
        until(lambda: not ours.host.path("/run/wireguard/wg0.sock").exists(), "the socket to go", timeout=5)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
