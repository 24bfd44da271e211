"""Each NAT recipe has the mapping and the filtering that its name claims, tried with plain UDP sockets.

::

    inside 10.0.1.2 ──[ NAT 198.51.100.2 ]── core ── server 192.0.2.10 and 192.0.2.11, two ports each
                                               └──── a second site, for punching

And coturn's ``turnutils_natdiscovery`` (RFC 5780) is asked as well, since it has never heard of these
recipes.

The servers here are this test's own sockets: they note whom a datagram came from, and answer from where we
like.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product

import pytest
from lab import Filtering, Lab, Mapping, Nat, Site, Topology, until
from lab.topology import EASY, EASY_BY_ADDRESS, EASY_OPEN, HARD, NAT_KINDS
from oracle import behaviour, predict_nats

AddrPort = tuple[str, int]

SILENCE = 0.15
"""Seconds without a datagram that count as "never".

A path through these kernels takes under a millisecond.
"""


@dataclass
class Bench:
    """Sockets inside and outside of one NAT."""

    inside: socket.socket
    outside: dict[AddrPort, socket.socket]
    first: AddrPort
    other_port: AddrPort
    other_address: AddrPort

    def mapping_towards(self, server: AddrPort) -> AddrPort:
        """The outer address and port that a server sees when the inner socket speaks to it."""
        self.inside.sendto(b"who am I?", server)
        _, source = self.outside[server].recvfrom(100)
        return (source[0], source[1])

    def lets_in(self, server: AddrPort, outer: AddrPort) -> bool:
        """Whether a datagram from a server to the outer address and port arrives inside."""
        self.outside[server].sendto(b"knock", outer)
        self.inside.settimeout(SILENCE)
        try:
            return self.inside.recv(100) == b"knock"
        except TimeoutError:
            return False


def lab_with(nat: Nat) -> Lab:
    return Lab(Topology("under test", user=Site(nat), dev=Site()))


@pytest.fixture(params=NAT_KINDS)
def nat(request: pytest.FixtureRequest) -> Nat:
    return NAT_KINDS[request.param]


@pytest.fixture
def bench(nat: Nat) -> Iterator[Bench]:
    with lab_with(nat) as lab, ExitStack() as stack:
        one, two = lab.internet.server_address, lab.internet.second_server_address
        addresses = [(one, 3478), (one, 3479), (two, 3478)]
        outside = {address: stack.enter_context(lab.server.host.udp(*address)) for address in addresses}
        inside = stack.enter_context(lab.user.host.udp("0.0.0.0", 41641))
        yield Bench(inside, outside, *addresses)


def test_a_nat_maps_as_it_claims(nat: Nat, bench: Bench) -> None:
    first = bench.mapping_towards(bench.first)
    by_port = bench.mapping_towards(bench.other_port) != first
    by_address = bench.mapping_towards(bench.other_address) != first
    assert (by_address, by_port) == {
        Mapping.ENDPOINT_INDEPENDENT: (False, False),
        Mapping.ADDRESS_DEPENDENT: (True, False),
        Mapping.ADDRESS_AND_PORT_DEPENDENT: (True, True),
    }[nat.mapping]


def test_a_mapping_is_stable_towards_one_server(nat: Nat, bench: Bench) -> None:
    seen = {bench.mapping_towards(bench.first) for _ in range(5)}
    assert len(seen) == 1
    assert {address for address, _ in seen} == {"198.51.100.2"}


def test_a_nat_filters_as_it_claims(nat: Nat, bench: Bench) -> None:
    outer = bench.mapping_towards(bench.first)
    assert bench.lets_in(bench.first, outer), "the server that was spoken to must be able to answer"
    let_in = (bench.lets_in(bench.other_port, outer), bench.lets_in(bench.other_address, outer))
    assert (
        let_in
        == {
            Filtering.ENDPOINT_INDEPENDENT: (True, True),
            Filtering.ADDRESS_DEPENDENT: (True, False),
            Filtering.ADDRESS_AND_PORT_DEPENDENT: (False, False),
        }[nat.filtering]
    )


COTURN = (
    "turnserver -n --stun-only -p 3478 --alt-listening-port 3479 --no-tls --no-dtls --no-cli "
    "--log-file stdout --pidfile /run/turnserver.pid --userdb /run/turnserver.db"
)


def test_coturn_finds_the_same(nat: Nat) -> None:
    with lab_with(nat) as lab:
        one, two = lab.internet.server_address, lab.internet.second_server_address
        lab.server.host.start([*COTURN.split(), "-L", one, "-L", two])
        for server in product((one, two), (3478, 3479)):
            with lab.server.host.udp("0.0.0.0") as sock:
                until(partial(answers_stun, sock, server), f"coturn to answer at {server}")
        # An answer that does not come is no verdict but silence, which UDP may always have: asked again, a
        # little.
        asked = (verdicts(lab.user.run(["turnutils_natdiscovery", "-m", "-f", one])) for _ in range(3))
        found = next((both for both in asked if len(both) == 2), [])
    assert found == [f"{kind.value}!".replace("-", " ") for kind in (nat.mapping, nat.filtering)]


def verdicts(discovery: str) -> list[str]:
    """What natdiscovery concluded: on mapping, then on filtering."""
    lines = discovery.splitlines()
    return [line.removeprefix("NAT with ").lower() for line in lines if line.startswith("NAT with")]


def answers_stun(sock: socket.socket, server: AddrPort) -> bool:
    """Whether a bare Binding request is answered."""
    sock.settimeout(SILENCE)
    sock.sendto(bytes.fromhex("00010000 2112a442") + bytes(12), server)
    try:
        return sock.recv(1000)[:2] == b"\x01\x01"
    except (TimeoutError, ConnectionRefusedError):
        return False


def test_sequential_ports_step_evenly() -> None:
    with lab_with(NAT_KINDS["sequential-by-port"]) as lab, ExitStack() as stack:
        server = lab.internet.server_address
        inside = stack.enter_context(lab.user.host.udp("0.0.0.0", 41641))
        ports = []
        for port in range(4000, 4006):
            outside = stack.enter_context(lab.server.host.udp(server, port))
            inside.sendto(b"x", (server, port))
            ports.append(outside.recvfrom(10)[1][1])
    steps = {(later - earlier) % 20000 for earlier, later in pairwise(ports)}
    assert len(steps) == 1


def test_a_firewall_that_passes_tcp_alone_lets_no_datagram_out_or_in() -> None:
    with Lab("udp-blocked") as lab:
        address = lab.internet.server_address
        with lab.server.host.udp(address, 3478) as server, lab.user.host.udp("0.0.0.0", 41641) as user:
            server.settimeout(SILENCE)
            user.sendto(b"x", (address, 3478))
            with pytest.raises(TimeoutError):
                server.recv(10)
        listener = lab.server.host.start(["iperf3", "--server", "--one-off", "--forceflush"])
        listener.wait_for("listening")
        assert lab.user.host.answers_tcp(address, 5201)


PAIRS = [
    (EASY, EASY),
    (EASY, EASY_OPEN),
    (HARD, EASY_BY_ADDRESS),
    (HARD, EASY_OPEN),
    (HARD, EASY),
    (HARD, HARD),
    (NAT_KINDS["hard-open"], HARD),
    (NAT_KINDS["address-by-address"], EASY_BY_ADDRESS),
    (NAT_KINDS["sequential-by-address"], NAT_KINDS["address-by-address"]),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda nat: str(nat))
def test_two_nats_can_be_punched_exactly_when_the_oracle_says_so(one: Nat, other: Nat) -> None:
    """Both ends learn their outer ports from the server, tell each other, and ping at once and again."""
    with Lab(Topology("punching", user=Site(one), dev=Site(other))) as lab:
        expected = predict_nats(one, other, foretells=False)
        assert punch(lab) == (expected == "direct")


def test_two_stateful_firewalls_can_be_punched_with_ipv6() -> None:
    with Lab("ipv6-only") as lab:
        assert predict_nats(behaviour(lab.topology.user), EASY) == "direct"
        assert punch(lab, any_address="::")


@pytest.mark.parametrize("name", ["hairpin", "no-hairpin"])
def test_isolated_hosts_of_one_lan_meet_only_at_a_router_that_turns_around(name: str) -> None:
    with Lab(name) as lab:
        with lab.dev.host.udp("0.0.0.0", 41000) as dev, lab.user.host.udp("0.0.0.0") as user:
            dev.settimeout(SILENCE)
            user.sendto(b"hello", ("10.0.1.3", 41000))
            with pytest.raises(TimeoutError):
                dev.recv(10)
        assert punch(lab) == lab.topology.user.hairpins


@pytest.mark.parametrize("name", ["same-lan", "no-nat"])
def test_nothing_stands_between_hosts_that_no_nat_parts(name: str) -> None:
    with Lab(name) as lab:
        dev_address = "10.0.1.3" if name == "same-lan" else "203.0.113.2"
        with lab.dev.host.udp(dev_address, 41641) as dev, lab.user.host.udp("0.0.0.0") as user:
            user.sendto(b"hello", (dev_address, 41641))
            assert dev.recv(10) == b"hello"


def punch(lab: Lab, any_address: str = "0.0.0.0") -> bool:
    """Whether plain UDP gets from both ends to both ends, each answering whom it hears."""
    server_address = lab.internet.server_address
    with (
        lab.server.host.udp(server_address, 3478) as server,
        lab.user.host.udp(any_address, 41641) as user,
        lab.dev.host.udp(any_address, 41641) as dev,
    ):
        outer = {}
        for end in (user, dev):
            end.sendto(b"who am I?", (server_address, 3478))
            outer[end] = server.recvfrom(100)[1][:2]
            end.settimeout(SILENCE)
        heard = {user: outer[dev], dev: outer[user]}
        got = {user: False, dev: False}
        for _ in range(4):
            for end in (user, dev):
                end.sendto(b"ping", heard[end])
            for end in (user, dev):
                try:
                    _, source = end.recvfrom(100)
                except TimeoutError:
                    continue
                got[end] = True
                heard[end] = source[:2]
        return all(got.values())


@pytest.mark.parametrize("everything", [False, True])
def test_udp_held_between_the_sites_stops_there_and_passes_when_released(everything: bool) -> None:
    with Lab("easy-nat") as lab:
        server_address = lab.internet.server_address
        with lab.udp_held(to_server_too=everything):
            with (
                lab.server.host.udp(server_address, 9999) as server,
                lab.user.host.udp("0.0.0.0") as user,
            ):
                server.settimeout(SILENCE)
                user.sendto(b"x", (server_address, 9999))
                if everything:
                    with pytest.raises(TimeoutError):
                        server.recv(10)
                else:
                    assert server.recv(10) == b"x"
            if not everything:
                assert not punch(lab)
                assert lab.internet.stopped_datagrams > 0
        assert punch(lab)
