"""Path choice without circles, and a Conn that nothing from outside can make raise."""

from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from nacl.bindings import crypto_box_afternm, crypto_box_beforenm

from coderd.disco import MAGIC, CallMeMaybe, DiscoBox, Message, Ping, Pong
from coderd.magicsock import Conn
from coderd.magicsock.path import PathQuality, is_improvement, path_score
from coderd.magicsock.ping_budget import PINGS_PER_PEER, PINGS_PER_TARGET, target_of
from coderd.metrics import Counters
from coderd.model.addresses import AddrPort
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPrivate, NodePrivate
from coderd.model.netmap import NodeKind, Peer
from coderd.model.paths import PathKind, PathPolicy
from coderd.model.transport import DerpTransmit, SocketId, UdpSource, UdpTransmit

ips = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.sampled_from(
        ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "10.0.0.1", "fd00::1", "192.0.2.1", "2001:db8::1"]
    ),
)
addrs = st.tuples(ips, st.integers(0, 65535))
latencies = st.floats(0, 10, allow_nan=False)
qualities = st.builds(PathQuality, addrs, latencies)


@pytest.mark.slow
@given(st.lists(qualities, min_size=2, max_size=12), st.randoms())
def test_a_chain_of_improvements_never_comes_back(paths: list[PathQuality], order: Random) -> None:
    current = paths[0]
    left: list[PathQuality] = []
    for _ in range(len(paths) * 3):
        challenger = order.choice(paths)
        if challenger.addr != current.addr and is_improvement(challenger, current):
            assert path_score(challenger) < path_score(current)
            assert challenger not in left
            left.append(current)
            current = challenger


@pytest.mark.slow
@given(qualities, qualities, qualities)
def test_improvement_is_transitive_between_addresses(a: PathQuality, b: PathQuality, c: PathQuality) -> None:
    if len({a.addr, b.addr, c.addr}) == 3 and is_improvement(a, b) and is_improvement(b, c):
        assert is_improvement(a, c)


@given(qualities, qualities)
def test_no_two_paths_improve_on_each_other(a: PathQuality, b: PathQuality) -> None:
    assert not (is_improvement(a, b) and is_improvement(b, a))


class World:
    """A Conn with one peer whose keys are known."""

    def __init__(self, policy: PathPolicy = PathPolicy.ANY) -> None:
        self.rng = Random(7).randbytes
        self.disco = DiscoPrivate.generate(self.rng)
        self.counters = Counters()
        self.conn = Conn(
            node_key=NodePrivate.generate(self.rng).public(),
            disco_key=self.disco,
            rng=self.rng,
            now=0.0,
            counters=self.counters,
        )
        peer_disco = DiscoPrivate.generate(self.rng)
        self.box = DiscoBox(peer_disco)
        self.key = NodePrivate.generate(self.rng).public()
        self.peer = Peer(
            UUID(int=1),
            NodeKind.DEVICE,
            "team/dev",
            self.key,
            peer_disco.public(),
            IPv6Address("fd60:627a:a42b::1"),
            1,
            (("198.51.100.1", 1),),
            1,
            path_policy=policy,
        )
        self.conn.set_local_endpoints(41641, 41641, ["10.0.0.1", "2001:db8::1"], 0.0)
        node = DerpNode("1a", 1, "relay.test", ipv4="192.0.2.10", ipv6="2001:db8::10")
        self.conn.set_derp_map(DerpMap({1: DerpRegion(1, "one", "One", (node,))}), {}, 0.0)
        self.conn.handle_relay_connected(1, 0.0)
        self.conn.set_netmap([self.peer], 0.0)

    def seal(self, message: Message) -> bytes:
        return self.box.seal(message, self.disco.public(), self.rng(24))


datagrams = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda tail: MAGIC + tail),
        st.binary(min_size=14, max_size=100).map(lambda tail: b"\1\1\0\x0c\x21\x12\xa4\x42" + tail),
    ),
    max_size=5,
)


@given(datagrams, addrs)
def test_no_datagram_makes_it_raise(given_datagrams: list[bytes], addr: AddrPort) -> None:
    world = World()
    world.conn.handle_udp(addr, given_datagrams, 1.0)
    world.conn.handle_relayed(1, world.key, given_datagrams, 1.0)
    world.conn.handle_timeout(2.0)


@given(st.binary(max_size=200), addrs)
def test_no_payload_of_an_authenticated_peer_makes_it_raise(payload: bytes, addr: AddrPort) -> None:
    world = World()
    packet = _seal_raw(world, payload)
    world.conn.handle_udp(addr, [packet], 1.0)
    world.conn.handle_relayed(1, world.key, [packet], 1.0)


def _seal_raw(world: World, payload: bytes) -> bytes:
    """A box around any payload: a sealed ping's header and nonce, its content replaced."""
    template = world.seal(Ping(bytes(12)))
    shared = crypto_box_beforenm(world.peer.disco_key, world.disco.raw)
    return template[:62] + crypto_box_afternm(payload, template[38:62], shared)


VICTIMS = [("198.51.100.7", 1), ("198.51.100.7", 2), ("198.51.100.8", 1), ("2001:db8:7::1", 1)]
named = st.lists(
    st.one_of(
        st.sampled_from(VICTIMS), st.tuples(st.just("198.51.100.7"), st.integers(1, 65535)), addrs, addrs
    ),
    max_size=40,
)
events = st.one_of(
    st.tuples(st.just("call"), named),
    st.tuples(st.just("netmap"), named),
    st.tuples(st.just("ping"), named),
    st.tuples(st.just("heard"), named),
    st.tuples(st.just("wait"), st.floats(0.001, 3)),
)


class Sent:
    """What left a World's sockets, and whether it kept the promises: nobody at all answers a ping."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.at: list[tuple[float, AddrPort, int]] = []

    def drain(self, now: float) -> None:
        while (transmit := self.world.conn.poll_transmit()) is not None:
            if isinstance(transmit, UdpTransmit) and transmit.addr[0] not in ("192.0.2.10", "2001:db8::10"):
                self.at += [(now, transmit.addr, len(d)) for d in transmit.datagrams]
        while self.world.conn.poll_event() is not None:
            pass

    def run(self, now: float, seconds: float) -> None:
        while (deadline := self.world.conn.poll_timeout()) is not None and deadline.when <= now + seconds:
            self.world.conn.handle_timeout(max(deadline.when, now))
            self.drain(max(deadline.when, now))

    def most_in_a_second(self, to: str | None = None) -> int:
        instants = sorted(at for at, addr, size in self.at if size != 110 and to in (None, target_of(addr)))
        counts = (sum(at <= each < at + 1 - 1e-6 for each in instants) for at in instants)
        return max(counts, default=0)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=15))
def test_whoever_is_named_and_does_not_answer_gets_few_and_small_pings(
    happens: list[tuple[str, object]],
) -> None:
    world, now = World(), 0.0
    sent, n_tx = Sent(world), iter(range(10**6))
    sent.drain(now)
    for kind, what in happens:
        if isinstance(what, float):
            sent.run(now, what)
            now += what
            continue
        assert isinstance(what, list)
        if kind == "call":
            world.conn.handle_relayed(1, world.key, [world.seal(CallMeMaybe(tuple(what)))], now)
        elif kind == "netmap":
            world.conn.set_netmap([replace(world.peer, endpoints=tuple(what))], now)
        for addr in what:
            if kind == "ping":
                ping = Ping(next(n_tx).to_bytes(12, "big"), world.key, 1188)
                world.conn.handle_udp(addr, [world.seal(ping)], now)
            elif kind == "heard":
                world.conn.handle_authenticated(world.key, UdpSource(addr), 100, now)
        sent.drain(now)
    sent.run(now, 5)
    assert {size for _, _, size in sent.at} <= {124, 110}
    assert sent.most_in_a_second() <= PINGS_PER_PEER
    for target in {target_of(addr) for _, addr, _ in sent.at}:
        assert sent.most_in_a_second(target) <= PINGS_PER_TARGET
    assert not any(ip_address(addr[0]).is_loopback for _, addr, size in sent.at if size != 110)


class OnePeer(RuleBasedStateMachine):
    """Anything happens in any order; the promises about paths hold after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.now = 0.0
        self.pings: list[tuple[AddrPort | None, Ping]] = []
        self.drain()

    def drain(self) -> None:
        conn = self.world.conn
        while (transmit := conn.poll_transmit()) is not None:
            assert transmit.datagrams
            to = transmit.addr if isinstance(transmit, UdpTransmit) else None
            for datagram in transmit.datagrams:
                try:
                    _, message = self.world.box.open(datagram)
                except MalformedPacket:
                    continue
                if isinstance(message, Ping):
                    self.pings.append((to, message))
        while conn.poll_event() is not None:
            pass

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(1000):
            deadline = self.world.conn.poll_timeout()
            if deadline is None or deadline.when > end:
                break
            self.now = max(self.now, deadline.when)
            self.world.conn.handle_timeout(self.now)
            self.drain()
        else:
            raise AssertionError("timers fire without end")
        self.now = end

    @rule(n=st.integers(1, 45))
    def data_is_sent(self, n: int) -> None:
        conn = self.world.conn
        path = conn.path(self.world.key)
        batch = [b"\4\0\0\0"] * n
        conn.send(self.world.key, batch, 4, self.now)
        ways = []
        while (transmit := conn.poll_transmit()) is not None:
            if transmit.datagrams is batch:
                ways.append(PathKind.RELAY if isinstance(transmit, DerpTransmit) else PathKind.DIRECT)
        assert path.kind in ways
        assert len(ways) <= 2  # a path in doubt is helped out by the relay

    @rule(index=st.integers(0, 1000), addr=addrs)
    def a_ping_is_answered(self, index: int, addr: AddrPort) -> None:
        if not self.pings:
            return
        to, ping = self.pings.pop(index % len(self.pings))
        packet = self.world.seal(Pong(ping.tx_id, addr))
        if to is None:
            self.world.conn.handle_relayed(1, self.world.key, [packet], self.now)
        else:
            self.world.conn.handle_udp(addr, [packet], self.now)
        self.drain()

    @rule(addr=addrs, tx_id=st.binary(min_size=12, max_size=12), number=st.integers(0, 3))
    def the_peer_pings(self, addr: AddrPort, tx_id: bytes, number: int) -> None:
        ping = self.world.seal(Ping(tx_id, self.world.key))
        self.world.conn.handle_udp(UdpSource(addr, SocketId(number)), [ping], self.now)
        self.drain()

    @rule(numbers=st.lists(st.integers(0, 3), max_size=3))
    def sockets_open_unasked(self, numbers: list[int]) -> None:
        self.world.conn.handle_sockets_opened(map(SocketId, numbers), self.now)
        self.drain()

    @rule(endpoints=st.lists(addrs, max_size=5))
    def the_peer_calls(self, endpoints: list[AddrPort]) -> None:
        call = self.world.seal(CallMeMaybe(tuple(endpoints)))
        self.world.conn.handle_relayed(1, self.world.key, [call], self.now)
        self.drain()

    @rule(addr=addrs)
    def data_arrives(self, addr: AddrPort) -> None:
        self.world.conn.handle_authenticated(self.world.key, UdpSource(addr), 100, self.now)
        self.drain()

    @rule(addr=addrs, error=st.sampled_from([1, 11, 90, 101, 113]))
    def sending_fails(self, addr: AddrPort, error: int) -> None:
        best = self.world.conn.path(self.world.key).via
        failed = best if isinstance(best, tuple) and error != 11 else addr
        self.world.conn.handle_send_error(failed, error, self.now)
        self.drain()

    @rule()
    def the_network_changes(self) -> None:
        self.world.conn.handle_rebound(self.now)
        self.drain()

    @rule()
    def a_user_pings(self) -> None:
        self.world.conn.ping(self.world.key, 1, self.now)
        self.drain()

    @invariant()
    def a_path_always_leads_somewhere(self) -> None:
        path = self.world.conn.path(self.world.key)
        assert path.kind is not PathKind.NONE
        assert path.kind is not PathKind.DIRECT or (isinstance(path.via, tuple) and path.latency is not None)

    @invariant()
    def candidates_are_bounded(self) -> None:
        prober = self.world.conn._peers[self.world.key].endpoint.prober
        assert len(prober.addresses()) <= 100


TestOnePeer = pytest.mark.slow(OnePeer.TestCase)
TestOnePeer.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
