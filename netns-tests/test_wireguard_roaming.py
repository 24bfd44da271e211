"""``coderd wireguard`` on the move.

Either end changes port or address while traffic flows, and both ends follow.

::

    user ─────────────── core ─────────────── dev
      ours0 (coderd wireguard)                  wg0 (wireguard-go)
"""

from collections.abc import Iterator

import pytest
from lab import Process, until
from tunnels import PORT, End, at, connect, connected, two_ends, uapi_connection

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow]

OTHER_PORT = 51999
SECOND = {"user": "198.51.100.77", "dev": "203.0.113.77"}
"""One more address for each host, on the link that it has."""


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    with connected() as pair:
        yield pair


def traffic(source: End, to: End) -> Process:
    """An echo every 20 ms until stopped; its log has a line for each answer."""
    flow = source.host.start(["ping", "-i", "0.02", to.addresses[4]], name="ping")
    flow.wait_for("icmp_seq=5")
    return flow


def goes_on(flow: Process, n_more: int = 50) -> None:
    """Waits for that many more answers."""
    before = flow.output.count("icmp_seq")
    until(lambda: flow.output.count("icmp_seq") >= before + n_more, f"{n_more} more answers", timeout=20)


def test_we_follow_a_peer_to_another_port(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    flow = traffic(theirs, ours)
    theirs.wg("set", "wg0", "listen-port", str(OTHER_PORT))
    goes_on(flow)
    assert ours.show("endpoints") == at(theirs.outer, OTHER_PORT)


def test_they_follow_us_to_another_port_under_a_transfer_without_a_gap(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    flow = traffic(ours, theirs)
    for port in (OTHER_PORT, PORT, OTHER_PORT):
        ours.wg("set", "ours0", "listen-port", str(port))
        goes_on(flow, 20)
        assert theirs.show("endpoints") == at(ours.outer, port)
    flow.signal(2)
    flow.wait()
    sent, received = (int(word) for word in _last(flow).split() if word.isdigit())
    assert received >= sent - 6, "no more than what was on the wire at each change"


def test_we_follow_a_peer_to_another_address(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    flow = traffic(theirs, ours)
    _move(theirs)
    goes_on(flow)
    assert ours.show("endpoints") == at(SECOND["dev"])


def test_they_follow_us_to_another_address(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    flow = traffic(ours, theirs)
    _move(ours)
    goes_on(flow)
    assert theirs.show("endpoints") == at(SECOND["user"])


def test_we_answer_from_the_address_that_the_peer_speaks_to() -> None:
    with two_ends() as (ours, theirs):
        ours.host.ip(f"address add {SECOND['user']}/24 dev eth0")
        connect(ours, theirs)
        ours.wg("set", "ours0", "peer", theirs.public, "remove")
        allowed = ",".join(theirs.addresses.values())
        ours.wg("set", "ours0", "peer", theirs.public, "allowed-ips", allowed)
        theirs.wg("set", "wg0", "peer", ours.public, "endpoint", at(SECOND["user"]))
        theirs.ping(ours)
        ours.ping(theirs)
        assert theirs.show("endpoints") == at(SECOND["user"])


def test_ipv6_link_local_endpoints_have_a_zone() -> None:
    with two_ends(6) as (ours, theirs):
        # One link between both, which needs no more than the addresses that every interface has.
        ours.host.ip(
            f"link add name wire type veth peer name wire netns {theirs.host.pid}",
            "link set wire addrgenmode none",
            "address add fe80::1/64 dev wire nodad",
            "link set wire up",
        )
        theirs.host.ip(
            "link set wire addrgenmode none", "address add fe80::2/64 dev wire nodad", "link set wire up"
        )
        ours.configure(theirs, endpoint=f"[fe80::2%wire]:{PORT}")
        theirs.configure(ours)
        for end in (ours, theirs):
            end.up()
        ours.ping(theirs)
        theirs.ping(ours, 6)
        index = ours.host.path("/sys/class/net/wire/ifindex").read_text().strip()
        with uapi_connection(ours.host, "ours0") as sock:
            sock.sendall(b"get=1\n\n")
            assert f"endpoint=[fe80::2%{index}]:{PORT}\n" in sock.recv(65536).decode()


def _move(end: End) -> None:
    """The host's only address becomes another."""
    name, gateway = end.host.name, end.outer.rpartition(".")[0] + ".1"
    end.host.ip(
        f"address del {end.outer}/24 dev eth0",
        f"address add {SECOND[name]}/24 dev eth0",
        f"route replace default via {gateway}",
    )


def _last(flow: Process) -> str:
    (line,) = (line for line in flow.output.splitlines() if "packets transmitted" in line)
    return " ".join(line.replace(",", "").split()[:4])
