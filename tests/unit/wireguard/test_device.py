"""A device's whole behaviour, two of them on a wire in memory, and byte for byte against the vectors."""

from collections import Counter
from ipaddress import ip_network
from typing import Any

import pytest

from coderd.model.keys import NodePrivate, NodePublic
from coderd.wireguard import Authenticated, Device, HandshakeCompleted
from coderd.wireguard.peer import MAX_STAGED
from coderd.wireguard.tai64n import encode_tai64n
from tests.unit.wireguard.support import (
    SCENARIOS,
    UNIX,
    Pair,
    ScriptedRandom,
    Source,
    device,
    feed,
    index_bytes,
    packet,
    private,
    take_datagrams,
    take_events,
    take_packets,
    take_transmits,
    unhex,
)


class TestVectors:
    """Both devices get the scenario's random numbers, so every datagram is known beforehand."""

    @pytest.fixture(params=SCENARIOS, ids=lambda scenario: scenario["name"])
    def scenario(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        chosen: dict[str, Any] = request.param
        return chosen

    def device(self, scenario: dict[str, Any], who: str, other: str, *allowed: str) -> Device:
        inputs = scenario["inputs"]
        return device(
            NodePrivate(unhex(inputs[f"{who}_static_private"])),
            NodePublic(unhex(inputs[f"{other}_static_public"])),
            *allowed,
            preshared_key=unhex(inputs["preshared_key"]),
            rng=ScriptedRandom(
                unhex(inputs[f"{who}_ephemeral_private"]), index_bytes(inputs[f"{who}_sender_index"])
            ),
        )

    def test_the_whole_exchange_is_the_vectors(self, scenario: dict[str, Any]) -> None:
        initiator = self.device(scenario, "initiator", "responder", "10.77.0.2/32", "fd77::2/128")
        responder = self.device(scenario, "responder", "initiator", "10.77.0.1/32", "fd77::1/128")
        initiator_key = NodePublic(unhex(scenario["inputs"]["initiator_static_public"]))
        unix = scenario["inputs"]["unix_seconds"] + scenario["inputs"]["unix_nanoseconds"] / 1e9
        initiator.initiate(NodePublic(unhex(scenario["inputs"]["responder_static_public"])), 0.0, unix)
        initiation = take_datagrams(initiator)
        assert [each.hex() for each in initiation] == [scenario["initiation"]["packet"]]
        feed(responder, initiation, Source())
        response = take_datagrams(responder)
        assert [each.hex() for each in response] == [scenario["response"]["packet"]]
        feed(initiator, response, Source())
        for case in scenario["transport"]["packets"][:-1]:
            sender, receiver = (initiator, responder)
            if case["direction"].startswith("responder"):
                sender, receiver = receiver, sender
            if case["name"] == "r2i_keepalive":
                sender.set_peer(initiator_key, 0.0, persistent_keepalive=25)
                sender.handle_timeout(0.0, UNIX)
            elif case["inner"]:
                sender.handle_packets([unhex(case["inner"])], 0.0, UNIX)
            sent = take_datagrams(sender)
            assert [each.hex() for each in sent] == [case["packet"]]
            feed(receiver, sent, Source())
            assert take_packets(receiver) == ([unhex(case["inner"])] if case["inner"] else [])

    @pytest.mark.parametrize("n", range(30))
    def test_what_must_be_dropped_is_dropped_in_silence(self, scenario: dict[str, Any], n: int) -> None:
        initiator = self.device(scenario, "initiator", "responder", "10.77.0.2/32")
        responder = self.device(scenario, "responder", "initiator", "10.77.0.1/32")
        case = scenario["must_be_dropped_silently"][n]
        initiator.initiate(
            NodePublic(unhex(scenario["inputs"]["responder_static_public"])), 0.0, 1700000000.987654321
        )
        initiation = take_datagrams(initiator)
        if not case["name"].startswith("initiation"):
            feed(responder, initiation, Source())
            assert len(take_datagrams(responder)) == 1
        ends = {"initiator": [initiator], "responder": [responder], "both": [initiator, responder]}
        for end in ends[case["deliver_to"]]:
            take_events(end)
            feed(end, [memoryview(unhex(case["packet"]))], Source(b"forger"), now=1.0)
            assert take_datagrams(end) == []
            assert take_packets(end) == []
            is_genuine = case["name"].startswith("transport_inner")
            events = [type(event) for event in take_events(end)]
            assert events == ([Authenticated, HandshakeCompleted] if is_genuine else [])
        self.assert_the_truth_still_works(scenario, initiator, responder, case["name"])

    def assert_the_truth_still_works(
        self, scenario: dict[str, Any], initiator: Device, responder: Device, name: str
    ) -> None:
        if name.startswith("initiation"):
            feed(responder, [unhex(scenario["initiation"]["packet"])], Source(), now=2.0)
            assert len(take_datagrams(responder)) == 1
        elif name.startswith("response") or name.startswith("cookie"):
            feed(initiator, [unhex(scenario["response"]["packet"])], Source(), now=2.0)
            assert [len(each) for each in take_datagrams(initiator)] == [32]
        else:
            case = scenario["transport"]["packets"][4]
            feed(responder, [unhex(case["packet"])], Source(), now=2.0)
            assert take_packets(responder) == [unhex(case["inner"])]


@pytest.mark.parametrize("preshared_key", [None, b"\x07" * 32], ids=["without psk", "with psk"])
def test_data_flows_both_ways(preshared_key: bytes | None) -> None:
    pair = Pair(preshared_key=preshared_key)
    there = [packet("10.77.0.1", "10.77.0.2", 100 + n) for n in range(60)]
    back = [packet("fd77::2", "fd77::1", 1420) for _ in range(60)]
    pair.a_sends(*there)
    pair.carry()
    assert take_packets(pair.b) == there
    pair.b_sends(*back)
    pair.carry()
    assert take_packets(pair.a) == back


def test_another_preshared_key_never_gets_a_session() -> None:
    pair = Pair()
    pair.a.set_peer(pair.key_b.public(), 0.0, preshared_key=b"\x01" * 32)
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    pair.carry()
    assert take_packets(pair.b) == []
    assert not pair.a.status(0.0).peers[0].has_session


def test_the_initiator_confirms_with_a_keepalive_only_where_nothing_is_staged() -> None:
    for staged, sizes in (((), [32]), ((packet("10.77.0.1", "10.77.0.2", 40),), [32 + 48])):
        pair = Pair()
        pair.a.initiate(pair.key_b.public(), 0.0, UNIX)
        pair.a_sends(*staged)
        feed(pair.b, take_datagrams(pair.a), pair.source_a)
        feed(pair.a, take_datagrams(pair.b), pair.source_b)
        assert [len(datagram) for datagram in take_datagrams(pair.a)] == sizes


def test_the_responder_keeps_its_data_until_the_initiator_has_spoken() -> None:
    pair = Pair()
    pair.a.initiate(pair.key_b.public(), 0.0, UNIX)
    feed(pair.b, take_datagrams(pair.a), pair.source_a)
    pair.b_sends(packet("10.77.0.2", "10.77.0.1"))
    response = take_datagrams(pair.b)
    assert [len(datagram) for datagram in response] == [92]
    feed(pair.a, response, pair.source_b)
    feed(pair.b, take_datagrams(pair.a), pair.source_a)
    feed(pair.a, take_datagrams(pair.b), pair.source_b)
    assert take_packets(pair.a) == [packet("10.77.0.2", "10.77.0.1")]


def test_the_responder_keeps_sending_on_the_old_session_during_a_rekey() -> None:
    pair = Pair()
    pair.connect()
    pair.now = 6.0
    pair.a.initiate(pair.key_b.public(), 6.0, pair.unix)
    feed(pair.b, take_datagrams(pair.a), pair.source_a, now=6.0)
    pair.b_sends(packet("10.77.0.2", "10.77.0.1"))
    response, on_the_old = take_datagrams(pair.b)
    feed(pair.a, [response], pair.source_b, now=6.0)
    take_datagrams(pair.a)
    feed(pair.a, [on_the_old], pair.source_b, now=6.0)
    assert take_packets(pair.a) == [packet("10.77.0.2", "10.77.0.1")]


def test_initiations_that_cross_both_complete_at_once() -> None:
    pair = Pair()
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    pair.b_sends(packet("10.77.0.2", "10.77.0.1"))
    from_a, from_b = take_datagrams(pair.a), take_datagrams(pair.b)
    feed(pair.b, from_a, pair.source_a)
    feed(pair.a, from_b, pair.source_b)
    pair.carry()
    assert take_packets(pair.a) == [packet("10.77.0.2", "10.77.0.1")]
    assert take_packets(pair.b) == [packet("10.77.0.1", "10.77.0.2")]


def test_an_initiation_is_accepted_once() -> None:
    pair = Pair()
    pair.a.initiate(pair.key_b.public(), 0.0, UNIX)
    initiation = take_datagrams(pair.a)
    feed(pair.b, initiation, pair.source_a)
    assert len(take_datagrams(pair.b)) == 1
    feed(pair.b, initiation, pair.source_a, now=30.0)
    assert take_datagrams(pair.b) == []


def test_initiations_closer_than_twenty_milliseconds_are_a_flood_that_moves_nothing() -> None:
    pair = Pair()
    sent = []
    for n in range(3):
        pair.a.initiate(pair.key_b.public(), 0.0, UNIX + n, force=True)
        sent += take_datagrams(pair.a)
    feed(pair.b, sent[:1], pair.source_a, now=1.0)
    feed(pair.b, sent[2:], pair.source_a, now=1.019)
    assert len(take_datagrams(pair.b)) == 1
    feed(pair.b, sent[1:2], pair.source_a, now=1.021)
    assert len(take_datagrams(pair.b)) == 1


def test_only_a_forced_initiation_passes_the_five_seconds() -> None:
    pair = Pair()
    key = pair.key_b.public()
    for now, force, n in ((0.0, False, 1), (4.9, False, 0), (4.9, True, 1), (9.0, False, 0), (9.9, False, 1)):
        pair.a.initiate(key, now, UNIX + now, force=force)
        assert len(take_datagrams(pair.a)) == n


def test_a_replayed_batch_is_counted_and_gone() -> None:
    pair = Pair()
    pair.connect()
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"), packet("10.77.0.1", "10.77.0.2"))
    datagrams = take_datagrams(pair.a)
    feed(pair.b, datagrams + datagrams, pair.source_a)
    assert len(take_packets(pair.b)) == 2
    take_events(pair.b)
    feed(pair.b, datagrams, pair.source_a)
    assert (take_packets(pair.b), take_events(pair.b)) == ([], [])


def test_one_batch_is_authenticated_once_and_names_where_it_came_from() -> None:
    pair = Pair()
    pair.connect()
    pair.a_sends(*[packet("10.77.0.1", "10.77.0.2")] * 10)
    elsewhere = Source(b"elsewhere")
    feed(pair.b, take_datagrams(pair.a), elsewhere)
    assert take_events(pair.b) == [Authenticated(pair.key_a.public(), elsewhere)]


def test_a_batch_that_mixes_sessions_strangers_and_handshakes_is_sorted_out() -> None:
    pair = Pair()
    pair.connect()
    pair.now = 6.0
    inner = packet("10.77.0.1", "10.77.0.2")
    pair.a_sends(inner)
    pair.a.initiate(pair.key_b.public(), 6.0, pair.unix)
    old, initiation = take_datagrams(pair.a)
    unknown = old[:4] + b"\xff\xff\xff\xff" + old[8:]
    feed(pair.b, [old, unknown, b"", b"\x01", initiation, bytes(1000)], pair.source_a, now=6.0)
    assert take_packets(pair.b) == [inner]
    assert [len(each) for each in take_datagrams(pair.b)] == [92]


def test_a_source_address_of_another_peer_is_dropped_but_counts_as_life() -> None:
    pair = Pair()
    pair.connect()
    pair.a_sends(packet("10.99.0.1", "10.77.0.2"), packet("10.77.0.1", "10.77.0.2"))
    feed(pair.b, take_datagrams(pair.a), pair.source_a)
    assert take_packets(pair.b) == [packet("10.77.0.1", "10.77.0.2")]
    assert len(take_events(pair.b)) == 1


def test_a_packet_to_nobody_is_counted() -> None:
    counters: Counter[str] = Counter()
    alone = Device(rng=ScriptedRandom(), now=0.0, counters=counters)
    alone.set_private_key(private(1), 0.0)
    alone.up(0.0)
    alone.handle_packets([packet("10.0.0.1", "10.0.0.2")] * 3, 0.0, UNIX)
    alone.handle_packets([b"", b""], 0.0, UNIX)
    assert counters == {"wireguard.drop.no_peer": 3, "wireguard.drop.malformed_inner": 2}


def test_staged_packets_are_bounded_and_the_oldest_go() -> None:
    pair = Pair()
    packets = [packet("10.77.0.1", "10.77.0.2", 24 + n) for n in range(MAX_STAGED + 3)]
    for each in packets:
        pair.a_sends(each)
    pair.carry()
    assert take_packets(pair.b) == packets[3:]


def test_packets_of_several_reads_share_a_batch() -> None:
    pair = Pair()
    pair.connect()
    pair.a_sends(packet("10.77.0.1", "10.77.0.2", 1420))
    pair.a_sends(packet("10.77.0.1", "10.77.0.2", 1420), packet("10.77.0.1", "10.77.0.2", 800))
    (transmit,) = take_transmits(pair.a)
    assert (transmit.to, transmit.segment_size, len(transmit.datagrams)) == (pair.key_b.public(), 1452, 3)
    feed(pair.b, transmit.datagrams[:2], pair.source_a)
    feed(pair.b, transmit.datagrams[2:], pair.source_a)
    received = pair.b.poll_packets()
    assert received is not None
    assert len(received.packets) == 3
    assert pair.b.poll_packets() is None


def test_padding_stays_below_the_mtu_that_is_set() -> None:
    pair = Pair(mtu=1420)
    pair.connect()
    pair.a.set_mtu(1281)
    pair.a_sends(packet("10.77.0.1", "10.77.0.2", 1281))
    assert [len(each) for each in take_datagrams(pair.a)] == [1281 + 32]


def test_a_device_that_is_down_is_silent_and_has_no_deadline() -> None:
    pair = Pair()
    pair.connect()
    pair.a.down(1.0)
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    feed(pair.a, [bytes(148)], pair.source_b)
    assert (take_datagrams(pair.a), pair.a.poll_timeout()) == ([], None)
    assert len(pair.a._local.indices) == 0
    pair.a.up(2.0)
    pair.now = 2.0
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    pair.carry()
    assert take_packets(pair.b) == [packet("10.77.0.1", "10.77.0.2")]


def test_without_a_private_key_nothing_happens_and_with_it_everything() -> None:
    pair = Pair()
    pair.a.set_private_key(None, 0.0)
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    assert take_datagrams(pair.a) == []
    pair.a.set_private_key(pair.key_a, 0.0)
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    pair.carry()
    assert len(take_packets(pair.b)) == 2


def test_a_new_private_key_ends_sending_on_old_sessions() -> None:
    pair = Pair()
    pair.connect()
    new = private(3)
    pair.a.set_private_key(new, 1.0)
    pair.b.set_peer(new.public(), 1.0, allowed_ips=[ip_network("10.77.0.1/32")])
    pair.now = 1.0
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    pair.carry()
    assert take_packets(pair.b) == [packet("10.77.0.1", "10.77.0.2")]
    assert {type(event) for event in take_events(pair.b)} == {Authenticated, HandshakeCompleted}


def test_our_own_key_is_never_a_peer() -> None:
    pair = Pair()
    pair.a.set_peer(pair.key_a.public(), 0.0)
    assert len(pair.a.status(0.0).peers) == 1
    pair.a.set_private_key(pair.key_b, 0.0)
    assert pair.a.status(0.0).peers == ()


def test_a_removed_peer_leaves_no_trace() -> None:
    pair = Pair()
    pair.connect()
    pair.a.remove_peer(pair.key_b.public(), 1.0)
    pair.a.remove_peer(pair.key_b.public(), 1.0)
    assert pair.a.status(1.0).peers == ()
    assert pair.a.poll_timeout() is None
    assert pair.a._allowed_ips.lookup(bytes([10, 77, 0, 2])) is None
    assert len(pair.a._local.indices) == 0


def test_forgotten_sessions_give_way_to_a_new_handshake_with_what_was_staged() -> None:
    pair = Pair()
    pair.connect()
    fresh = Pair()
    fresh.now = pair.now = 1.0
    pair.b = fresh.b  # the peer has restarted
    pair.a.forget_sessions(pair.key_b.public(), 1.0)
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    pair.carry()
    assert take_packets(pair.b) == [packet("10.77.0.1", "10.77.0.2")]


def test_a_peer_key_of_low_order_stays_configured_and_silent() -> None:
    pair = Pair()
    zero = NodePublic(bytes(32))
    pair.a.set_peer(zero, 0.0, allowed_ips=[ip_network("10.88.0.0/16")])
    pair.a_sends(packet("10.77.0.1", "10.88.0.2"))
    assert take_datagrams(pair.a) == []
    owner = pair.a._allowed_ips.lookup(bytes([10, 88, 0, 1]))
    assert owner is not None
    assert owner.key == zero


def test_bytes_are_counted_as_on_the_wire() -> None:
    pair = Pair()
    pair.connect()
    a, b = pair.a.status(0.0).peers[0], pair.b.status(0.0).peers[0]
    assert (a.tx_bytes, a.rx_bytes) == (148 + 32, 92)
    assert (b.tx_bytes, b.rx_bytes) == (92, 148 + 32)
    assert a.last_handshake_at == b.last_handshake_at == 0.0


def test_the_timestamp_mark_outlives_the_device() -> None:
    pair = Pair()
    pair.a.initiate(pair.key_b.public(), 0.0, UNIX)
    mark = pair.a.tai64n_mark
    assert mark == encode_tai64n(int(UNIX), 0)
    later = Device(rng=ScriptedRandom(), now=0.0, tai64n_floor=mark)
    assert later.tai64n_mark == mark


def test_settings_out_of_range_are_our_own_mistakes() -> None:
    pair = Pair()
    with pytest.raises(ValueError, match="persistent"):
        pair.a.set_peer(pair.key_b.public(), 0.0, persistent_keepalive=65536)
    with pytest.raises(ValueError, match="preshared"):
        pair.a.set_peer(pair.key_b.public(), 0.0, preshared_key=b"short")
    with pytest.raises(ValueError, match="MTU"):
        pair.a.set_mtu(-1)


class TestLoad:
    """Floods: a budget between drains, cookies for those who can be reached, silence for the rest."""

    def initiations(self, pair: Pair, n: int) -> list[bytes]:
        made = []
        for step in range(n):
            pair.a.initiate(pair.key_b.public(), 0.0, UNIX + step, force=True)
            made += take_datagrams(pair.a)
        return made

    def test_four_handshakes_are_worked_off_between_drains(self) -> None:
        pair = Pair()
        for n, initiation in enumerate(self.initiations(pair, 10)):
            feed(pair.b, [initiation], pair.source_a, now=float(n))
        assert pair.b.status(10.0).n_queued_handshakes == 6
        deadline = pair.b.poll_timeout()
        assert deadline is not None
        assert deadline.when <= 9.0
        assert len(take_datagrams(pair.b)) == 4
        pair.b.handle_timeout(10.0, UNIX)
        assert pair.b.status(10.0).n_queued_handshakes == 2

    def test_under_load_a_sender_without_a_cookie_gets_one_and_no_more(self) -> None:
        pair = Pair()
        flood = self.initiations(pair, 1) * 300
        feed(pair.b, flood, pair.source_a, now=1.0)
        answers = take_transmits(pair.b)
        assert {len(transmit.datagrams[0]) for transmit in answers} == {64}
        assert {transmit.to for transmit in answers} == {pair.source_a}
        assert pair.b.status(1.0).is_under_load

    def test_with_its_cookie_a_peer_passes_in_its_next_attempt(self) -> None:
        pair = Pair()
        (initiation,) = self.initiations(pair, 1)
        feed(pair.b, [initiation] * 300, pair.source_a, now=1.0)
        feed(pair.a, take_datagrams(pair.b)[:1], pair.source_b, now=1.0)
        assert take_datagrams(pair.a) == []
        while pair.b.status(1.5).n_queued_handshakes:
            pair.b.handle_timeout(1.5, UNIX)
            take_datagrams(pair.b)
        pair.a.initiate(pair.key_b.public(), 1.6, UNIX + 1000, force=True)
        (second,) = take_datagrams(pair.a)
        assert second[-16:] != bytes(16)
        feed(pair.b, [second], Source(b"\x0a\x00\x00\x01\x10\x02"), now=1.6)
        assert [len(each) for each in take_datagrams(pair.b)] == [64]
        feed(pair.b, [second], pair.source_a, now=1.6)
        assert [len(each) for each in take_datagrams(pair.b)] == [92]

    def test_a_proven_source_is_still_limited(self) -> None:
        pair = Pair()
        (initiation,) = self.initiations(pair, 1)
        feed(pair.b, [initiation] * 300, pair.source_a, now=1.0)
        feed(pair.a, take_datagrams(pair.b)[:1], pair.source_b, now=1.0)
        pair.a.initiate(pair.key_b.public(), 1.1, UNIX + 1000, force=True)
        proven = take_datagrams(pair.a)
        n_before = pair.b._counters["wireguard.drop.handshake_rate"]
        for _ in range(100):
            feed(pair.b, proven, pair.source_a, now=1.1)
            take_datagrams(pair.b)
        assert pair.b._counters["wireguard.drop.handshake_rate"] - n_before > 0

    def test_the_queue_is_bounded(self) -> None:
        pair = Pair()
        feed(pair.b, self.initiations(pair, 1) * 1500, pair.source_a)
        assert pair.b.status(0.0).n_queued_handshakes <= 1024
        assert pair.b._counters["wireguard.drop.handshake_queue_full"] == 1500 - 1024

    def test_junk_without_mac1_is_never_answered_or_queued(self) -> None:
        pair = Pair()
        feed(pair.b, [b"\x01" + bytes(147)] * 500, pair.source_a)
        assert pair.b.status(0.0).n_queued_handshakes == 0
        assert take_datagrams(pair.b) == []
