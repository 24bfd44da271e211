"""Conn as its callers see it, on a literal clock, against a peer whose keys the test holds."""

import errno
from dataclasses import replace
from ipaddress import IPv6Address
from random import Random
from typing import TypeVar
from uuid import UUID

import pytest

from coderd.disco import MAGIC, CallMeMaybe, DiscoBox, Message, Ping, Pong
from coderd.magicsock import (
    Conn,
    ConnEvent,
    DiscoUnreadable,
    EndpointsChanged,
    HomeChanged,
    NetcheckDone,
    PathChanged,
    PingReply,
    Slept,
)
from coderd.metrics import Counters
from coderd.model.addresses import AddrPort
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPrivate, NodePrivate
from coderd.model.netmap import NodeKind, Peer
from coderd.model.paths import PathKind, PathPolicy, Pin
from coderd.model.transport import DerpSource, DerpTransmit, SocketId, UdpSource, UdpTransmit
from coderd.stun import encode_response, parse_request

T = 1000.0
REGION = 7
ADDR, OTHER = ("198.51.100.1", 41641), ("203.0.113.9", 1234)
STUN, MAPPED = ("192.0.2.10", 3478), ("198.51.100.99", 20001)
DATA = b"\x04\0\0\0" + bytes(28)
Event = TypeVar("Event", bound=ConnEvent)


class Bench:
    """A Conn, and the one peer that it knows."""

    def __init__(self) -> None:
        self.rng = Random(1).randbytes
        self.counters = Counters()
        self.node, self.disco = NodePrivate.generate(self.rng), DiscoPrivate.generate(self.rng)
        self.peer_node, self.peer_disco = NodePrivate.generate(self.rng), DiscoPrivate.generate(self.rng)
        self.conn = Conn(
            node_key=self.node.public(), disco_key=self.disco, rng=self.rng, now=T, counters=self.counters
        )
        self.box = DiscoBox(self.peer_disco)
        self.key = self.peer_node.public()
        self.peer = Peer(
            node_id=UUID(int=1),
            kind=NodeKind.WORKSPACE,
            name="team/dev",
            node_key=self.key,
            disco_key=self.peer_disco.public(),
            address=IPv6Address("fd60:627a:a42b::1"),
            home_region=REGION,
            endpoints=(ADDR,),
            generation=1,
        )

    def start(self, peer: Peer | None = None) -> None:
        """The usual beginning: sockets, relay connected, one peer."""
        self.conn.set_local_endpoints(41641, None, ["10.0.0.1"], T)
        self.conn.handle_relay_connected(REGION, T)
        self.conn.set_netmap([peer or self.peer], T)

    def sealed(self, message: Message) -> bytes:
        return self.box.seal(message, self.disco.public(), self.rng(24))

    def transmits(self) -> list[UdpTransmit | DerpTransmit]:
        return list(iter(self.conn.poll_transmit, None))

    def messages(self) -> list[tuple[AddrPort | int, Message]]:
        """Everything sent that is disco, opened, and where it went."""
        found: list[tuple[AddrPort | int, Message]] = []
        for transmit in self.transmits():
            to = transmit.addr if isinstance(transmit, UdpTransmit) else transmit.region
            for datagram in transmit.datagrams:
                try:
                    found.append((to, self.box.open(datagram)[1]))
                except MalformedPacket:
                    continue
        return found

    def candidates(self) -> dict[AddrPort, tuple[str, ...]]:
        """The addresses at which the peer may be, and who named each."""
        prober = self.conn._peers[self.key].endpoint.prober
        return {each.addr: each.origins for each in prober.candidates}

    def events(self, kind: type[Event]) -> list[Event]:
        return [event for event in iter(self.conn.poll_event, None) if isinstance(event, kind)]

    def make_direct(self, now: float = T) -> None:
        """The peer answers the first, small ping, and then the full one."""
        for _ in range(2):
            ping = next(m for to, m in self.messages() if to == ADDR and isinstance(m, Ping))
            self.conn.handle_udp(ADDR, [self.sealed(Pong(ping.tx_id, MAPPED))], now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_peer_is_reachable_by_its_home_relay_from_the_first_moment(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    bench.conn.send(bench.key, [DATA], len(DATA), T)
    assert bench.transmits()[0] == DerpTransmit(REGION, bench.key, [DATA])
    assert bench.conn.path(bench.key).kind == "relay"
    assert bench.conn.path(bench.key).via == REGION


def test_new_peers_are_pinged_called_and_pinged_by_relay(bench: Bench) -> None:
    bench.start()
    (to_addr, ping), (to_relay, call), (_, relay_ping) = bench.messages()
    assert isinstance(ping, Ping)
    assert isinstance(relay_ping, Ping)
    assert (to_addr, ping.node_key, ping.padding) == (ADDR, bench.node.public(), 0)
    assert (to_relay, call) == (REGION, CallMeMaybe((("10.0.0.1", 41641),)))
    assert relay_ping.padding == 0


def test_a_padded_ping_fills_the_tunnels_packet_size(bench: Bench) -> None:
    bench.start()
    (ping,) = [m for to, m in bench.messages() if to == ADDR and isinstance(m, Ping)]
    bench.conn.handle_udp(ADDR, [bench.sealed(Pong(ping.tx_id, MAPPED))], T)
    sizes = [len(t.datagrams[0]) for t in bench.transmits() if isinstance(t, UdpTransmit)]
    assert sizes == [1312]


def test_a_pong_moves_traffic_to_its_address_and_says_so(bench: Bench) -> None:
    bench.start()
    bench.make_direct(T + 0.03)
    (changed,) = bench.events(PathChanged)[1:]
    assert (changed.path.kind, changed.path.via) == (PathKind.DIRECT, ADDR)
    assert changed.path.latency == pytest.approx(0.0)
    bench.transmits()
    bench.conn.send(bench.key, [DATA] * 3, len(DATA), T + 0.1)
    assert bench.transmits() == [UdpTransmit(ADDR, [DATA] * 3, len(DATA))]


def test_bytes_are_counted_per_peer_kind_and_direction(bench: Bench) -> None:
    bench.start()
    bench.conn.send(bench.key, [DATA] * 2, len(DATA), T)
    bench.make_direct(T + 0.03)
    bench.conn.send(bench.key, [DATA] * 3, len(DATA), T + 0.1)
    bench.conn.handle_authenticated(bench.key, UdpSource(ADDR), 100, T + 0.1)
    bench.conn.handle_authenticated(bench.key, DerpSource(REGION, bench.key), 10, T + 0.1)
    path = bench.conn.path(bench.key)
    assert (path.tx_relay, path.tx_direct) == (2 * len(DATA), 3 * len(DATA))
    assert (path.rx_relay, path.rx_direct) == (10, 100)


def test_each_segment_of_a_read_is_told_apart(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    ping = bench.sealed(Ping(b"transaction1", bench.key))
    source, rest = bench.conn.handle_udp(ADDR, [DATA, memoryview(DATA), memoryview(ping), DATA[:9]], T)
    assert source == UdpSource(ADDR)
    assert [bytes(datagram) for datagram in rest] == [DATA, DATA, DATA[:9]]
    assert (ADDR, Pong(b"transaction1", ADDR)) in bench.messages()


def test_a_ping_by_relay_is_answered_by_relay_with_the_regions_magic_address(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    source, rest = bench.conn.handle_relayed(
        REGION, bench.key, [bench.sealed(Ping(b"transaction1", bench.key))], T
    )
    assert source == DerpSource(REGION, bench.key)
    assert rest == []
    assert bench.messages() == [(REGION, Pong(b"transaction1", ("127.3.3.40", REGION)))]


def test_call_me_maybe_counts_by_relay_only(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    call = bench.sealed(CallMeMaybe((OTHER,)))
    bench.conn.handle_udp(ADDR, [call], T + 1)
    assert bench.counters["magicsock.drop.disco_unexpected"] == 1
    assert bench.messages() == []
    bench.conn.handle_relayed(REGION, bench.key, [call], T + 1)
    assert {to for to, _ in bench.messages()} == {ADDR, OTHER}


def sent_to(bench: Bench, ip: str, until: float) -> list[int]:
    """Sizes of all that goes to an address, with all deadlines kept and data under way, until an instant."""
    sizes, now = [], T
    while now < until:
        deadline = bench.conn.poll_timeout()
        now = min(T + 0.1 + int((now - T) * 10 + 1e-6) / 10, deadline.when if deadline is not None else until)
        bench.conn.handle_timeout(now)
        bench.conn.send(bench.key, [DATA] * 8, len(DATA), now)
        for transmit in bench.transmits():
            if isinstance(transmit, UdpTransmit) and transmit.addr[0] == ip:
                sizes += [len(datagram) for datagram in transmit.datagrams]
    return sizes


def test_one_relayed_message_makes_a_device_send_little_to_whom_it_names(bench: Bench) -> None:
    """64 ports of a stranger, in 1,269 bytes: that was 1 MB in 45 s."""
    bench.start()
    call = bench.sealed(CallMeMaybe(tuple((OTHER[0], 1000 + i) for i in range(64))))
    bench.conn.handle_relayed(REGION, bench.key, [call], T)
    sizes = sent_to(bench, OTHER[0], T + 45)
    assert set(sizes) == {124}
    assert len(sizes) <= 5 * 46


def test_a_ping_that_is_sent_again_from_anywhere_gets_nothing(bench: Bench) -> None:
    bench.start(replace(bench.peer, endpoints=()))
    bench.transmits()
    packet = bench.sealed(Ping(b"transaction1", bench.key, 1188))
    bench.conn.handle_udp(ADDR, [packet], T)
    assert [len(t.datagrams[0]) for t in bench.transmits()] == [110, 124]
    for i in range(100):
        bench.conn.handle_udp((f"203.0.113.{i}", 1), [packet], T + 0.01)
    assert bench.transmits() == []
    assert list(bench.candidates()) == [ADDR]


@pytest.mark.parametrize(("key", "padding"), [(False, 0), (False, 17), (False, 18), (True, 0), (True, 1188)])
def test_no_pong_is_larger_than_its_ping(bench: Bench, key: bool, padding: int) -> None:
    bench.start(replace(bench.peer, endpoints=()))
    bench.transmits()
    packet = bench.sealed(Ping(b"transaction1", bench.key if key else None, padding))
    for source in range(2):
        if source:
            bench.conn.handle_udp(ADDR, [packet], T)
        else:
            bench.conn.handle_relayed(REGION, bench.key, [packet], T)
        pongs = [t.datagrams[0] for t in bench.transmits() if len(t.datagrams[0]) == 110]
        assert len(pongs) == (len(packet) >= 110)


@pytest.mark.parametrize("size", [38, 109, 110, 1312])
@pytest.mark.parametrize("is_direct", [False, True])
def test_forged_disco_has_few_pings_sent_and_none_over_a_path_in_use(
    bench: Bench, size: int, is_direct: bool
) -> None:
    bench.start()
    if is_direct:
        bench.make_direct()
    else:
        (ping,) = [m for to, m in bench.messages() if to == ADDR and isinstance(m, Ping)]
        bench.conn.handle_udp(ADDR, [bench.sealed(Pong(ping.tx_id, MAPPED))], T)
    bench.transmits()
    for _ in range(100):
        bench.conn.handle_udp(ADDR, [MAGIC + bytes(size - len(MAGIC))], T + 0.5)
    n_pings = sum(to == ADDR and isinstance(message, Ping) for to, message in bench.messages())
    assert n_pings == (size >= 110 and not is_direct)
    assert len(bench.events(DiscoUnreadable)) == (size >= 110)


INITIATION = b"\x01\0\0\0" + bytes(144)


def test_a_handshake_goes_to_no_more_places_of_one_ip_than_a_ping_may(bench: Bench) -> None:
    places = tuple((OTHER[0], 1000 + i) for i in range(40))
    bench.start(replace(bench.peer, endpoints=places))
    for tenth in range(300):
        bench.conn.send(bench.key, [INITIATION], len(INITIATION), T + tenth / 10, is_handshake=True)
    n_sent = sum(isinstance(t, UdpTransmit) and t.addr[0] == OTHER[0] for t in bench.transmits())
    assert 0 < n_sent <= 5 * 31


def test_data_goes_to_no_address_that_is_merely_named(bench: Bench) -> None:
    """A peer whose home is a relay that nobody can reach would else have everything sent to whom it names."""
    bench.conn.set_local_endpoints(41641, None, ["10.0.0.1"], T)
    bench.conn.set_netmap([replace(bench.peer, endpoints=(OTHER,))], T)
    bench.transmits()
    for tenth in range(100):
        bench.conn.send(bench.key, [DATA], len(DATA), T + tenth / 10)
    assert DATA not in [d for t in bench.transmits() if isinstance(t, UdpTransmit) for d in t.datagrams]


def test_where_a_peer_only_seems_to_speak_from_goes_no_more_than_thrice_what_came(bench: Bench) -> None:
    bench.conn.set_local_endpoints(41641, None, ["10.0.0.1"], T)
    bench.conn.set_netmap([bench.peer], T)
    bench.transmits()
    bench.conn.handle_authenticated(bench.key, UdpSource(OTHER), 92, T)
    for _ in range(100):
        bench.conn.send(bench.key, [DATA], len(DATA), T + 0.1)
    data = [d for t in bench.transmits() if isinstance(t, UdpTransmit) for d in t.datagrams if d == DATA]
    assert 0 < len(b"".join(data)) <= 3 * 92


def test_a_flood_of_call_me_maybes_is_heeded_sixteen_times_a_second(bench: Bench) -> None:
    bench.start()
    for n in range(1000):
        call = bench.sealed(CallMeMaybe(((OTHER[0], 1 + n),)))
        bench.conn.handle_relayed(REGION, bench.key, [call], T + n / 1000)
    candidates = bench.candidates()
    assert [addr for addr, origins in candidates.items() if "call-me-maybe" in origins] == [(OTHER[0], 16)]


def test_strangers_are_dropped_unanswered(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    stranger = DiscoBox(DiscoPrivate.generate(bench.rng))
    packet = stranger.seal(Ping(b"transaction1", bench.key), bench.disco.public(), bench.rng(24))
    bench.conn.handle_udp(OTHER, [packet], T)
    bench.conn.handle_relayed(REGION, NodePrivate.generate(bench.rng).public(), [packet, DATA], T)
    assert bench.transmits() == []
    assert bench.counters["magicsock.drop.disco_unknown_key"] == 1
    assert bench.counters["magicsock.drop.unknown_relay_sender"] == 2


def test_a_peers_disco_key_under_another_peers_relay_key_is_dropped(bench: Bench) -> None:
    other = NodePrivate.generate(bench.rng).public()
    bench.start()
    bench.conn.set_netmap(
        [
            bench.peer,
            replace(bench.peer, node_key=other, disco_key=DiscoPrivate.generate(bench.rng).public()),
        ],
        T,
    )
    bench.transmits()
    bench.conn.handle_relayed(REGION, other, [bench.sealed(CallMeMaybe((OTHER,)))], T)
    assert bench.counters["magicsock.drop.disco_wrong_sender"] == 1
    assert bench.transmits() == []


def test_a_relay_only_peer_is_neither_pinged_nor_answered_over_udp(bench: Bench) -> None:
    bench.start(replace(bench.peer, path_policy=PathPolicy.RELAY_ONLY))
    assert {to for to, _ in bench.messages()} == {REGION}
    bench.conn.handle_udp(ADDR, [bench.sealed(Ping(b"transaction1", bench.key))], T)
    assert bench.transmits() == []


def test_a_users_ping_is_answered_with_the_path_it_came_by(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    bench.conn.ping(bench.key, 42, T + 1)
    ping = next(m for to, m in bench.messages() if to == REGION and isinstance(m, Ping))
    bench.conn.handle_relayed(REGION, bench.key, [bench.sealed(Pong(ping.tx_id, ADDR))], T + 1.08)
    (reply,) = bench.events(PingReply)
    assert (reply.token, reply.path.kind, reply.path.via) == (42, PathKind.RELAY, REGION)
    assert reply.latency == pytest.approx(0.08)


def test_pinned_direct_without_a_path_drops_and_counts(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    bench.conn.pin_path(bench.key, Pin.DIRECT, T)
    bench.conn.send(bench.key, [DATA] * 5, len(DATA), T)
    assert bench.transmits() == []
    assert bench.counters["magicsock.drop.no_path"] == 5
    assert bench.conn.path(bench.key).kind is PathKind.NONE


def test_pinned_to_the_relay_a_direct_path_is_left_alone(bench: Bench) -> None:
    bench.start()
    bench.make_direct()
    bench.conn.pin_path(bench.key, Pin.RELAY, T)
    bench.transmits()
    bench.conn.send(bench.key, [DATA], len(DATA), T)
    assert bench.transmits() == [DerpTransmit(REGION, bench.key, [DATA])]


def test_answers_to_a_source_go_back_the_way_it_came(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    bench.conn.send(UdpSource(OTHER), [b"cookie"], 6, T)
    bench.conn.send(DerpSource(3, bench.key), [b"cookie"], 6, T)
    assert bench.transmits() == [UdpTransmit(OTHER, [b"cookie"], 6), DerpTransmit(3, bench.key, [b"cookie"])]


def test_where_the_peer_was_heard_serves_while_its_home_is_not_connected(bench: Bench) -> None:
    bench.conn.handle_relay_connected(2, T)
    bench.conn.set_netmap([bench.peer], T)
    assert bench.conn.path(bench.key).via == REGION
    bench.conn.handle_relayed(2, bench.key, [DATA], T)
    assert bench.conn.path(bench.key).via == 2
    bench.conn.handle_relay_connected(REGION, T)
    assert bench.conn.path(bench.key).via == REGION
    bench.conn.handle_relay_broken(REGION, T)
    assert bench.conn.path(bench.key).via == 2
    bench.conn.handle_peer_gone(2, bench.key, T)
    assert bench.conn.path(bench.key).via == REGION


def test_a_refused_send_moves_the_next_batch_to_the_relay(bench: Bench) -> None:
    bench.start()
    bench.make_direct()
    bench.conn.handle_send_error(ADDR, errno.ENOBUFS, T + 1)
    assert bench.conn.path(bench.key).kind is PathKind.DIRECT
    bench.conn.handle_send_error(ADDR, errno.EPERM, T + 1)
    assert bench.conn.path(bench.key).kind is PathKind.RELAY


def test_a_changed_generation_resets_the_path(bench: Bench) -> None:
    bench.start()
    bench.make_direct()
    bench.conn.set_netmap([replace(bench.peer, generation=2)], T + 1)
    assert bench.conn.path(bench.key).kind is PathKind.RELAY
    assert any(to == ADDR for to, _ in bench.messages())


def test_a_removed_peer_is_forgotten(bench: Bench) -> None:
    bench.start()
    bench.conn.set_netmap([], T + 1)
    bench.transmits()
    bench.conn.send(bench.key, [DATA], len(DATA), T + 1)
    bench.conn.ping(bench.key, 1, T + 1)
    assert bench.transmits() == []
    assert bench.conn.poll_timeout() is None
    assert bench.counters["magicsock.drop.unknown_peer"] == 1


def test_data_from_a_new_address_makes_it_worth_a_ping(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    bench.conn.handle_authenticated(bench.key, UdpSource(OTHER), 100, T)
    assert [to for to, _ in bench.messages()] == [OTHER]


def test_an_ipv6_address_is_left_alone_where_there_is_no_ipv6_socket(bench: Bench) -> None:
    bench.start(replace(bench.peer, endpoints=(("2001:db8::1", 1),)))
    assert {to for to, _ in bench.messages()} == {REGION}


def one_relay() -> DerpMap:
    node = DerpNode("7a", REGION, "relay.test", ipv4=STUN[0], ipv6="none", stun_port=STUN[1])
    return DerpMap({REGION: DerpRegion(REGION, "one", "One", (node,))})


def answer_stun(bench: Bench, now: float, mapped: AddrPort = MAPPED) -> None:
    for transmit in bench.transmits():
        if isinstance(transmit, UdpTransmit) and transmit.addr == STUN:
            response = encode_response(parse_request(transmit.datagrams[0]), mapped)
            assert bench.conn.handle_udp(STUN, [response], now)[1] == []


def test_an_only_relay_is_home_at_once(bench: Bench) -> None:
    bench.conn.set_derp_map(one_relay(), {}, T)
    assert bench.events(HomeChanged) == [HomeChanged(REGION)]


def test_the_first_stun_reply_is_told_at_once_and_sent_to_peers(bench: Bench) -> None:
    bench.start()
    bench.conn.set_derp_map(one_relay(), {}, T)
    bench.events(EndpointsChanged)
    answer_stun(bench, T + 0.02)
    told = (MAPPED, 2), (("10.0.0.1", 41641), 1)
    assert bench.events(EndpointsChanged) == [EndpointsChanged(told)]
    assert (REGION, CallMeMaybe(tuple(addr for addr, _ in told))) in bench.messages()


def test_netchecks_repeat_while_the_tunnel_is_used_and_stop_when_it_is_not(bench: Bench) -> None:
    bench.start()
    bench.conn.set_derp_map(one_relay(), {}, T)
    done_at = []
    while (deadline := bench.conn.poll_timeout()) is not None and deadline.when < T + 600:
        bench.conn.handle_timeout(deadline.when)
        answer_stun(bench, deadline.when)
        done_at += [deadline.when - T for _ in bench.events(NetcheckDone)]
        if deadline.when < T + 60:
            bench.conn.send(bench.key, [DATA], len(DATA), deadline.when)
    assert 4 <= len(done_at) <= 7
    assert max(done_at) < 60 + 45 + 26 + 5


def test_status_shows_everything_frozen(bench: Bench) -> None:
    bench.start()
    bench.conn.set_derp_map(one_relay(), {}, T)
    bench.make_direct(T + 0.01)
    assert bench.events(HomeChanged) == [HomeChanged(REGION)]
    assert bench.conn.is_relay_connected(REGION)
    assert not bench.conn.is_relay_connected(REGION + 1)
    assert bench.conn.path(bench.key).kind is PathKind.DIRECT
    assert bench.candidates() == {ADDR: ("netmap",)}


@pytest.mark.parametrize("mapped", [("0.0.0.0", 41641), ("198.51.100.99", 0), ("224.0.0.1", 41641)])
def test_a_stun_answer_that_names_no_possible_address_is_a_counted_drop(
    bench: Bench, mapped: AddrPort
) -> None:
    bench.start()
    bench.conn.set_derp_map(one_relay(), {}, T)
    bench.events(EndpointsChanged)
    (request,) = [t for t in bench.transmits() if isinstance(t, UdpTransmit) and t.addr == STUN]
    response = encode_response(parse_request(request.datagrams[0]), mapped)
    assert bench.conn.handle_udp(STUN, [response], T + 0.02)[1] == []
    assert bench.events(EndpointsChanged) == []
    assert bench.counters["magicsock.drop.stun"] == 1


@pytest.mark.parametrize(
    "mapped", [("192.168.7.1", 20001), ("100.64.0.7", 20001), (STUN[0], 20001), ("10.8.0.2", 41641)]
)
def test_whoever_stands_before_the_server_is_never_told_as_an_endpoint(
    bench: Bench, mapped: AddrPort
) -> None:
    bench.conn.set_local_endpoints(41641, None, ["10.0.0.1"], T, ["10.8.0.2"])
    bench.conn.set_derp_map(one_relay(), {}, T)
    bench.events(EndpointsChanged)
    answer_stun(bench, T + 0.02, mapped)
    while (deadline := bench.conn.poll_timeout()) is not None and deadline.when < T + 10:
        bench.conn.handle_timeout(deadline.when)
        answer_stun(bench, deadline.when, mapped)
    events = list(iter(bench.conn.poll_event, None))
    (done, *_) = [event for event in events if isinstance(event, NetcheckDone)]
    assert (done.report.udp, done.report.global_v4) == (True, None)
    assert done.report.foreign_mappings == {STUN: mapped}
    assert not [event for event in events if isinstance(event, EndpointsChanged)]
    assert bench.counters["magicsock.drop.stun"] == 0


def test_a_relayed_ping_names_the_relay_that_the_pong_came_by(bench: Bench) -> None:
    bench.start(replace(bench.peer, endpoints=()))
    bench.transmits()
    bench.conn.ping(bench.key, 3, T + 1)
    ping = next(message for to, message in bench.messages() if to == REGION and isinstance(message, Ping))
    bench.conn.handle_relayed(REGION + 1, bench.key, [bench.sealed(Pong(ping.tx_id, MAPPED))], T + 1.03)
    (reply,) = bench.events(PingReply)
    assert (reply.path.kind, reply.path.via) == (PathKind.RELAY, REGION + 1)


def test_a_machine_that_slept_trusts_nothing_and_looks_at_its_network_anew(bench: Bench) -> None:
    bench.start()
    bench.make_direct(T + 0.03)
    bench.transmits()
    bench.conn.handle_timeout(T + 3600)
    (slept,) = bench.events(Slept)
    assert 3500 < slept.seconds < 3600
    assert bench.conn.path(bench.key).kind is PathKind.RELAY


def test_a_deadline_that_is_merely_late_is_no_sleep(bench: Bench) -> None:
    bench.start()
    bench.make_direct(T + 0.03)
    deadline = bench.conn.poll_timeout()
    assert deadline is not None
    bench.conn.handle_timeout(deadline.when + 20)
    assert bench.events(Slept) == []


def test_what_was_read_from_a_spare_socket_that_is_closed_is_answered_by_a_usual_one(bench: Bench) -> None:
    """A read may be under way while its socket is closed.

    Whoever was taken to be reached by it would be reached no more.
    """
    bench.start()
    bench.transmits()
    ping = bench.sealed(Ping(bytes(12), bench.key, 0))
    source, rest = bench.conn.handle_udp(UdpSource(OTHER, SocketId(99)), [ping, DATA], T + 1)
    assert (source, rest) == (UdpSource(OTHER), [DATA])
    sent = [t for t in bench.transmits() if isinstance(t, UdpTransmit) and t.addr == OTHER]
    assert {t.socket for t in sent} == {0}
    assert len(sent) == 2
