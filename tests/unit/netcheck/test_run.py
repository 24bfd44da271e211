"""Netcheck runs on a clock of literal numbers: when probes leave, what replies mean, when it ends."""

import random
from dataclasses import dataclass, field

import pytest

from coderd.model.addresses import AddrPort
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.netcheck import Netcheck, Report, StunProbe
from coderd.stun import encode_response, parse_request, parse_response

MAPPED: AddrPort = ("203.0.113.7", 40001)
OTHER_PORT: AddrPort = ("203.0.113.7", 40002)
MAPPED6: AddrPort = ("2001:db8:7::7", 41641)
STUN = ("192.0.2.10", 3478)
SECOND_STUN = ("192.0.2.10", 3479)

EMBEDDED = DerpMap(
    {
        999: DerpRegion(
            999,
            "coder",
            "Coder",
            (
                DerpNode("999b", 999, "server.example", stun_port=3478),
                DerpNode("999s", 999, "server.example", stun_port=3479, stun_only=True),
            ),
        )
    }
)
RESOLVED = {"server.example": ("192.0.2.10", "2001:db8::10")}


def regions(n_regions: int) -> DerpMap:
    """Regions 1 to n with one node each, at 192.0.2.<n> over IPv4 alone."""
    nodes = {
        n: DerpNode(f"{n}a", n, f"r{n}", ipv4=f"192.0.2.{n}", ipv6="none") for n in range(1, n_regions + 1)
    }
    return DerpMap({n: DerpRegion(n, f"r{n}", f"R{n}", (node,)) for n, node in nodes.items()})


@dataclass
class Bench:
    """A netcheck with a clock in hand."""

    derp_map: DerpMap
    has_ipv6: bool = False
    netcheck: Netcheck = field(init=False)
    now: float = 100.0
    sent: list[tuple[float, AddrPort]] = field(default_factory=list)
    wanted: list[tuple[float, int]] = field(default_factory=list)
    fresh: list[StunProbe] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.netcheck = Netcheck(rng=random.Random(1).randbytes)
        self.netcheck.set_derp_map(self.derp_map, RESOLVED)
        self.netcheck.set_families(has_ipv4=True, has_ipv6=self.has_ipv6)

    def start(self, full: bool = False) -> None:
        assert self.netcheck.start(self.now, full)
        self.sent.clear()
        self.wanted.clear()
        self.drain()

    def drain(self) -> None:
        since = round(self.now - 100.0, 6)
        while (wish := self.netcheck.poll_probe()) is not None:
            if isinstance(wish, StunProbe):
                self.sent.append((since, wish.addr))
                self.fresh.append(wish)
            else:
                self.wanted.append((since, wish.region))

    def run_until(self, now: float) -> None:
        """Wakes the machine at each deadline up to an instant, and leaves the clock there."""
        while (deadline := self.netcheck.poll_timeout()) is not None and deadline.when <= now:
            assert deadline.when >= self.now
            self.now = deadline.when
            self.netcheck.handle_timeout(self.now)
            self.drain()
        self.now = now

    def reply(self, addr: AddrPort, mapped: AddrPort = MAPPED, *, at: float) -> None:
        """Lets the oldest unanswered probe of an address be answered at an instant."""
        self.run_until(at)
        probe = next(probe for probe in self.fresh if probe.addr == addr)
        self.fresh.remove(probe)
        tx, seen = parse_response(encode_response(parse_request(probe.datagram), mapped))
        assert self.netcheck.handle_stun(tx, seen, self.now)
        self.drain()

    def finish(self) -> Report:
        self.run_until(self.now + 10)
        return self.taken()

    def taken(self) -> Report:
        report = self.netcheck.poll_report()
        assert report is not None
        assert not self.netcheck.is_running
        return report


def test_both_stun_ports_of_one_server_are_asked_and_agree() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    bench.reply(STUN, at=100.02)
    assert bench.netcheck.is_running
    bench.reply(SECOND_STUN, at=100.12)
    report = bench.taken()
    assert bench.sent == [(0.0, STUN), (0.1, SECOND_STUN)]
    assert report.mapping_varies_by_dest is False
    assert report.global_v4 == MAPPED
    assert report.global_v4_counters == {MAPPED: 2}
    assert report.region_latency == {999: pytest.approx(0.02)}
    assert (report.udp, report.ipv4, report.ipv6) == (True, True, False)
    assert report.preferred_derp == 999
    assert (report.started_at, report.taken_at) == (100.0, 100.12)


def test_another_mapping_at_the_second_port_means_that_it_varies() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    bench.reply(STUN, at=100.02)
    bench.reply(SECOND_STUN, OTHER_PORT, at=100.12)
    report = bench.taken()
    assert report.mapping_varies_by_dest is True
    assert report.global_v4 == MAPPED
    assert list(report.global_v4_counters) == [MAPPED, OTHER_PORT]


def test_a_silent_second_port_is_waited_for_briefly_and_leaves_the_mapping_unknown() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    bench.reply(STUN, at=100.02)
    bench.run_until(100.239)
    assert bench.netcheck.is_running
    bench.run_until(100.241)  # its probe left at 0.1; twice 20 ms and 100 ms later it is over
    report = bench.taken()
    assert report.mapping_varies_by_dest is None
    assert report.udp


def test_two_replies_from_one_destination_do_not_show_a_stable_mapping() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    bench.run_until(100.2)
    bench.reply(STUN, at=100.25)
    bench.reply(STUN, at=100.26)
    assert bench.netcheck.is_running
    assert bench.finish().mapping_varies_by_dest is None


def test_lost_probes_are_sent_again_to_the_nodes_in_turn() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    bench.run_until(101.0)
    assert bench.sent == [(0.0, STUN), (0.1, SECOND_STUN), (0.2, STUN)]


def test_every_transmission_has_its_own_transaction_id_and_latency() -> None:
    bench = Bench(regions(1))
    bench.start()
    bench.run_until(100.2)
    assert len({probe.tx for probe in bench.fresh}) == 3
    bench.fresh.reverse()
    bench.reply(("192.0.2.1", 3478), at=100.21)
    assert bench.taken().region_latency == {1: pytest.approx(0.01)}


def test_both_families_are_measured_apart() -> None:
    bench = Bench(EMBEDDED, has_ipv6=True)
    bench.start()
    bench.reply(STUN, at=100.03)
    bench.reply(("2001:db8::10", 3478), MAPPED6, at=100.05)
    bench.reply(SECOND_STUN, at=100.13)
    report = bench.taken()
    assert report.region_v4_latency == {999: pytest.approx(0.03)}
    assert report.region_v6_latency == {999: pytest.approx(0.05)}
    assert report.region_latency == {999: pytest.approx(0.03)}
    assert (report.global_v4, report.global_v6) == (MAPPED, MAPPED6)


def test_a_dead_family_delays_a_small_map_by_little() -> None:
    bench = Bench(EMBEDDED, has_ipv6=True)
    bench.start()
    bench.reply(STUN, at=100.02)
    bench.reply(SECOND_STUN, at=100.12)
    report = bench.finish()
    assert report.taken_at == pytest.approx(100.32)
    assert not report.ipv6
    assert report.ipv6_can_send


def test_a_family_without_a_route_is_not_waited_for() -> None:
    bench = Bench(EMBEDDED, has_ipv6=True)
    bench.start()
    for at in (100.0, 100.1, 100.2):
        bench.run_until(at)
        for probe in [probe for probe in bench.fresh if ":" in probe.addr[0]]:
            bench.fresh.remove(probe)
            bench.netcheck.handle_send_failed(probe.tx, bench.now)
    bench.reply(STUN, at=100.21)
    bench.reply(SECOND_STUN, at=100.22)
    report = bench.taken()
    assert report.ipv4_can_send
    assert not report.ipv6_can_send


def test_after_the_third_region_a_full_run_waits_twice_the_slowest_latency() -> None:
    bench = Bench(regions(5))
    bench.start()
    for region, at in ((1, 100.01), (2, 100.02), (3, 100.03)):
        bench.reply((f"192.0.2.{region}", 3478), at=at)
    report = bench.finish()
    assert report.taken_at == pytest.approx(100.09)
    assert sorted(report.region_latency) == [1, 2, 3]
    assert report.preferred_derp == 1


def test_the_next_run_asks_the_nearest_regions_and_home_only() -> None:
    bench = Bench(regions(5))
    bench.start()
    for region in range(1, 6):
        bench.reply((f"192.0.2.{region}", 3478), at=100.0 + region / 1000)
    bench.taken()
    bench.fresh.clear()
    bench.now = 120.0
    bench.start()
    assert [addr[0] for _, addr in bench.sent] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_after_five_minutes_a_run_is_full_again_and_so_is_one_that_is_forced() -> None:
    bench = Bench(regions(5))
    bench.start()
    for region in range(1, 6):
        bench.reply((f"192.0.2.{region}", 3478), at=100.0 + region / 1000)
    bench.taken()
    bench.now = 150.0
    bench.start(full=True)
    assert len(bench.sent) == 5
    bench.finish()
    bench.now = 451.0
    bench.start()
    assert len(bench.sent) == 5


def test_silence_asks_for_https_after_a_second_and_reports_after_three() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    bench.run_until(102.0)
    assert bench.wanted == [(1.0, 999)]
    bench.netcheck.handle_https_latency(999, 0.08, bench.now)
    report = bench.finish()
    assert report.taken_at == pytest.approx(103.0)
    assert not report.udp
    assert report.region_latency == {999: 0.08}
    assert report.region_v4_latency == {}
    assert report.preferred_derp == 999


def test_where_stun_speaks_for_no_region_to_live_in_those_are_asked_by_https() -> None:
    """A home whose relay had died was once kept for ever.

    The only other relay's STUN was blocked, a third server's not.
    """
    stun_only = DerpNode("9s", 9, "r9", ipv4="192.0.2.9", ipv6="none", stun_only=True)
    derp_map = DerpMap({**regions(2).regions, 9: DerpRegion(9, "r9", "R9", (stun_only,))})
    bench = Bench(derp_map)
    bench.netcheck.set_home_limits(forced=0, dead=frozenset({2}))
    bench.start(full=True)
    bench.reply(("192.0.2.9", 3478), at=100.01)
    bench.run_until(101.1)
    assert [region for _, region in bench.wanted] == [1, 2]
    bench.netcheck.handle_https_latency(1, 0.05, bench.now)
    bench.netcheck.handle_https_latency(2, None, bench.now)
    report = bench.finish()
    assert (report.preferred_derp, report.udp) == (1, True)


def test_https_is_waited_for_until_five_seconds() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    report = bench.finish()
    assert report.taken_at == pytest.approx(105.0)
    assert report.preferred_derp == 0


def test_a_failed_https_request_ends_the_wait() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    bench.run_until(104.0)
    bench.netcheck.handle_https_latency(999, None, bench.now)
    report = bench.taken()
    assert (report.taken_at, report.region_latency) == (104.0, {})


def test_a_map_without_stun_goes_to_https_at_once() -> None:
    node = DerpNode("1a", 1, "server.example", stun_port=-1)
    bench = Bench(DerpMap({1: DerpRegion(1, "one", "One", (node,))}))
    bench.start()
    assert bench.wanted == [(0.0, 1)]
    bench.netcheck.handle_https_latency(1, 0.05, 100.06)
    assert bench.taken().region_latency == {1: 0.05}


def test_https_leaves_out_regions_to_avoid_those_never_home_and_those_without_a_relay() -> None:
    node = DerpNode("a", 1, "server.example", stun_port=-1)
    stun_only = DerpNode("d", 4, "server.example", stun_port=-1, stun_only=True)
    derp_map = DerpMap(
        {
            1: DerpRegion(1, "a", "A", (node,)),
            2: DerpRegion(2, "b", "B", (node,), avoid=True),
            3: DerpRegion(3, "c", "C", (node,), no_measure_no_home=True),
            4: DerpRegion(4, "d", "D", (stun_only,)),
        }
    )
    bench = Bench(derp_map)
    bench.start()
    assert bench.wanted == [(0.0, 1)]


def test_udp_that_wakes_up_late_ends_the_run_without_https() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    bench.reply(STUN, at=101.5)
    bench.reply(SECOND_STUN, at=101.5)
    report = bench.taken()
    assert report.udp
    assert report.region_latency == {999: pytest.approx(1.4)}


def test_an_empty_map_gives_an_empty_report_at_once() -> None:
    bench = Bench(DerpMap())
    bench.start()
    assert bench.taken().region_latency == {}


def test_only_one_run_at_a_time_and_strangers_are_not_awaited() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    assert not bench.netcheck.start(100.0, True)
    assert not bench.netcheck.handle_stun(bytes(12), MAPPED, 100.0)
    bench.finish()
    assert not bench.netcheck.handle_stun(bytes(12), MAPPED, 111.0)
    assert bench.netcheck.poll_timeout() is None


def test_an_answer_counts_once() -> None:
    bench = Bench(EMBEDDED)
    bench.start()
    tx = bench.fresh[0].tx
    assert bench.netcheck.handle_stun(tx, MAPPED, 100.01)
    assert not bench.netcheck.handle_stun(tx, OTHER_PORT, 100.02)
    assert bench.finish().global_v4_counters == {MAPPED: 1}


def test_an_aborted_run_leaves_no_report_and_the_next_is_full() -> None:
    bench = Bench(regions(5))
    bench.start()
    bench.netcheck.abort()
    assert bench.netcheck.poll_report() is None
    bench.start()
    assert len(bench.sent) == 5


def test_a_heard_home_survives_a_report_in_which_it_is_silent() -> None:
    bench = Bench(regions(2))
    bench.start()
    bench.reply(("192.0.2.1", 3478), at=100.01)
    bench.reply(("192.0.2.2", 3478), at=100.05)
    assert bench.taken().preferred_derp == 1
    bench.fresh.clear()
    bench.now = 400.5
    bench.start(full=True)
    bench.netcheck.handle_relay_heard(1, 400.6)
    bench.reply(("192.0.2.2", 3478), at=400.61)
    assert bench.finish().preferred_derp == 1
