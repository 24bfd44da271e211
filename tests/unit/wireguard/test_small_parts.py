"""The engine's small parts, each against the reference's own cases.

They are timestamps, window, limiter, prefixes and batches.
"""

from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

import pytest

from coderd.model.transport import UdpSource
from coderd.wireguard.allowed_ips import AllowedIps
from coderd.wireguard.batch import MAX_BYTES, MAX_DATAGRAMS, cut_batches
from coderd.wireguard.index_table import IndexTable
from coderd.wireguard.inner import admit, destination
from coderd.wireguard.limiter import HandshakeLimiter, limiter_key
from coderd.wireguard.replay import REJECT_AFTER_MESSAGES, WINDOW, ReplayWindow
from coderd.wireguard.tai64n import TimestampClock, encode_tai64n
from tests.unit.wireguard.support import VECTORS


class TestTai64n:
    @pytest.mark.parametrize("case", VECTORS["tai64n"]["cases"])
    def test_an_instant_encodes_as_in_the_vectors(self, case: dict[str, Any]) -> None:
        assert encode_tai64n(case["unix_seconds"], case["unix_nanoseconds"]).hex() == case["bytes"]

    def test_the_clock_says_what_the_wall_says(self) -> None:
        assert TimestampClock().stamp(1_700_000_000.5) == encode_tai64n(1_700_000_000, 500_000_000)

    def test_timestamps_rise_while_the_wall_clock_stands_or_steps_back(self) -> None:
        clock = TimestampClock()
        stamps = [clock.stamp(now) for now in (1000.0, 1000.0, 1000.0, 3.0, *[999.99] * 100, 1005.0)]
        assert stamps == sorted(set(stamps))

    def test_timestamps_rise_across_a_restart(self) -> None:
        first = TimestampClock()
        mark = first.stamp(2000.0)
        assert TimestampClock(floor=mark).stamp(1.0) > mark

    def test_a_step_past_the_second_carries(self) -> None:
        clock = TimestampClock(floor=encode_tai64n(5, 999_999_999))
        assert clock.stamp(0.0) == encode_tai64n(6, 0)

    def test_a_mark_of_another_size_is_our_own_mistake(self) -> None:
        with pytest.raises(ValueError, match="12 bytes"):
            TimestampClock(floor=b"short")


class TestReplay:
    @pytest.mark.parametrize("case", VECTORS["replay"]["sequences"], ids=lambda case: case["name"])
    def test_counters_are_judged_as_in_the_vectors(self, case: dict[str, Any]) -> None:
        window = ReplayWindow()
        assert [window.accept(int(counter)) for counter in case["counters"]] == case["accept"]

    @pytest.mark.parametrize("case", VECTORS["replay"]["sequences"], ids=lambda case: case["name"])
    def test_a_batch_is_judged_as_its_counters_one_by_one(self, case: dict[str, Any]) -> None:
        assert ReplayWindow().accept_all([int(counter) for counter in case["counters"]]) == case["accept"]

    def test_the_window_reaches_as_far_back_as_it_says(self) -> None:
        window = ReplayWindow()
        assert window.accept(100_000)
        assert window.accept(100_000 - WINDOW)
        assert not window.accept(100_000 - WINDOW - 1)
        assert VECTORS["replay"]["window"] == WINDOW
        assert int(VECTORS["replay"]["reject_at_or_above"]) == REJECT_AFTER_MESSAGES

    def test_a_run_up_to_the_limit_stops_at_it(self) -> None:
        window = ReplayWindow()
        first = REJECT_AFTER_MESSAGES - 2
        assert window.accept_all([first, first + 1, first + 2]) == [True, True, False]


class TestLimiter:
    @pytest.mark.parametrize(
        "case", VECTORS["handshake_rate_limiter"]["cases"], ids=lambda case: case["name"]
    )
    def test_a_source_is_limited_as_in_the_vectors(self, case: dict[str, Any]) -> None:
        limiter = HandshakeLimiter()
        assert [limiter.allow(ip.encode(), at) for at, ip in case["events_ns_ip"]] == case["allow"]

    def test_idle_sources_are_forgotten_and_their_number_is_bounded(self) -> None:
        limiter = HandshakeLimiter()
        allowed = [limiter.allow(n.to_bytes(4, "big"), 0) for n in range(10_000)]
        assert (allowed.count(True), len(limiter)) == (8192, 8192)
        assert limiter.allow(b"late", 2_000_000_000)
        assert len(limiter) == 1

    def test_a_source_is_an_ipv4_address_an_ipv6_network_or_a_key(self) -> None:
        assert limiter_key(bytes(range(6))) == bytes(range(4))
        assert limiter_key(bytes(range(18))) == bytes(range(8))
        assert limiter_key(bytes(range(32))) == bytes(range(32))

    @pytest.mark.parametrize(
        ("one", "other", "is_same"),
        [
            (("192.0.2.1", 1), ("192.0.2.1", 2), True),
            (("192.0.2.1", 1), ("192.0.2.2", 1), False),
            (("2001:db8::1", 1), ("2001:db8::2", 2), True),
            (("2001:db8::1", 1), ("2001:db8:0:1::1", 1), False),
        ],
    )
    def test_so_it_is_for_addresses_as_the_paths_give_them(
        self, one: tuple[str, int], other: tuple[str, int], is_same: bool
    ) -> None:
        keys = [limiter_key(UdpSource(addr).cookie_bytes) for addr in (one, other)]
        assert (keys[0] == keys[1]) == is_same


class TestAllowedIps:
    def test_the_table_answers_as_in_the_vectors(self) -> None:
        case = VECTORS["allowed_ips"]
        table: AllowedIps[str] = AllowedIps()
        peers = {name: name for _, name in case["table"]}
        for network, peer in case["table"]:
            table.insert(ip_network(network), peers[peer])
        for address, peer in case["lookup"]:
            assert table.lookup(ip_address(address).packed) == peer
        for step in case["then"]:
            match step["op"]:
                case "insert":
                    table.insert(ip_network(step["prefix"]), peers[step["peer"]])
                case "remove_if_owned":
                    table.remove(ip_network(step["prefix"]), peers[step["peer"]])
                case "remove_peer":
                    table.replace(peers[step["peer"]], ())
                case "lookup":
                    assert table.lookup(ip_address(step["ip"]).packed) == step["peer"]

    def test_a_prefix_that_moves_is_listed_last_at_its_new_owner(self) -> None:
        table: AllowedIps[str] = AllowedIps()
        one, two = ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16")
        table.insert(one, "a")
        table.insert(two, "b")
        table.insert(one, "b")
        assert (table.networks("a"), table.networks("b")) == ([], [two, one])

    def test_an_address_of_any_other_size_belongs_to_nobody(self) -> None:
        table: AllowedIps[str] = AllowedIps()
        table.insert(ip_network("0.0.0.0/0"), "a")
        assert [table.lookup(bytes(size)) for size in (0, 3, 4, 5, 16, 17)] == [
            None,
            None,
            "a",
            None,
            None,
            None,
        ]

    def test_the_cache_is_bounded(self) -> None:
        table: AllowedIps[str] = AllowedIps()
        table.insert(ip_network("::/0"), "a")
        assert {table.lookup(n.to_bytes(16, "big")) for n in range(10_000)} == {"a"}
        assert len(table._cache) <= 4096


class TestIndexTable:
    def test_an_index_in_use_is_drawn_again(self) -> None:
        draws = iter([b"\1\0\0\0", b"\1\0\0\0", b"\2\0\0\0"])
        table: IndexTable[str] = IndexTable(lambda size: next(draws))
        assert (table.insert("a"), table.insert("b")) == (1, 2)

    def test_an_index_out_of_use_cannot_be_replaced(self) -> None:
        table: IndexTable[str] = IndexTable(Random(1).randbytes)
        index = table.insert("a")
        table.replace(index, "b")
        assert table.get(index) == "b"
        table.discard(index)
        assert table.get(index) is None
        with pytest.raises(ValueError, match="not in use"):
            table.replace(index, "c")


class TestBatches:
    def test_equal_sizes_share_a_batch_that_a_shorter_one_ends(self) -> None:
        sizes = [100, 100, 40, 100, 100, 200, 40, 40]
        batches = cut_batches([bytes(size) for size in sizes])
        assert [[len(datagram) for datagram in batch] for batch in batches] == [
            [100, 100, 40],
            [100, 100],
            [200, 40],
            [40],
        ]

    def test_a_batch_ends_at_its_bounds(self) -> None:
        assert [len(batch) for batch in cut_batches([bytes(32)] * 130)] == [MAX_DATAGRAMS, MAX_DATAGRAMS, 2]
        assert [len(batch) for batch in cut_batches([bytes(1452)] * 90)] == [44, 44, 2]
        assert [len(batch) for batch in cut_batches([bytes(MAX_BYTES + 1)] * 2)] == [1, 1]


class TestInner:
    def test_a_destination_needs_a_whole_header(self) -> None:
        assert destination(b"\x45" + bytes(15) + b"abcd") == b"abcd"
        assert destination(b"\x60" + bytes(23) + b"0123456789abcdef") == b"0123456789abcdef"
        for size, first in ((19, 0x45), (39, 0x60), (40, 0x50), (0, 0)):
            assert destination(bytes([first] + [0] * size)[:size]) is None

    def test_a_total_length_bounds_the_packet_both_ways(self) -> None:
        def v4(total: int, size: int) -> bytes:
            return b"\x45\x00" + total.to_bytes(2, "big") + bytes(size - 4)

        verdict = admit([v4(20, 32), v4(33, 32), v4(19, 32), v4(32, 32), b""], lambda source: True)
        assert [len(packet) for packet in verdict.packets] == [20, 32]
        assert (verdict.n_malformed, verdict.n_foreign) == (2, 0)
        assert verdict.n_misdirected == 0
