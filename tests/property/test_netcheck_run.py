"""Whatever answers come and when, a run ends within five seconds and wakes no more often than it must."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.netcheck import HttpsProbe, Netcheck

latencies = st.floats(0.0, 6.0)
mappings = st.sampled_from([("203.0.113.7", 1), ("203.0.113.7", 2), ("2001:db8::7", 3)])
answers = st.none() | st.tuples(latencies, mappings)
MOST_WAKE_UPS = 200


@st.composite
def derp_maps(draw: st.DrawFn) -> DerpMap:
    regions = {}
    for region_id in range(1, draw(st.integers(0, 5)) + 1):
        nodes = tuple(
            DerpNode(
                f"{region_id}{index}",
                region_id,
                "relay.example",
                ipv4=draw(st.sampled_from(["", "none", f"192.0.2.{region_id}"])),
                ipv6=draw(st.sampled_from(["", "none", f"2001:db8::{region_id}"])),
                stun_port=draw(st.sampled_from([0, -1, 3479])),
                stun_only=draw(st.booleans()),
            )
            for index in range(draw(st.integers(0, 3)))
        )
        flags = draw(st.tuples(st.booleans(), st.booleans()))
        regions[region_id] = DerpRegion(
            region_id, "r", "R", nodes, avoid=flags[0], no_measure_no_home=flags[1]
        )
    return DerpMap(regions)


@pytest.mark.slow
@given(derp_maps(), st.data())
def test_every_run_ends_in_time_with_a_home_that_was_measured(derp_map: DerpMap, data: st.DataObject) -> None:
    netcheck = Netcheck(rng=random.Random(0).randbytes)
    netcheck.set_derp_map(derp_map, {"relay.example": ("192.0.2.99", "2001:db8::99")})
    now = 0.0
    for _ in range(2):
        assert netcheck.start(now)
        now = run_to_end(netcheck, now, data)
        now += 25.0


def run_to_end(netcheck: Netcheck, started_at: float, data: st.DataObject) -> float:
    """Answers what is asked as the data says; returns when the run ended."""
    now = started_at
    arrivals: list[tuple[float, bytes | int, tuple[str, int]]] = []
    for _ in range(MOST_WAKE_UPS):
        while (wish := netcheck.poll_probe()) is not None:
            if (answer := data.draw(answers)) is not None:
                what = wish.region if isinstance(wish, HttpsProbe) else wish.tx
                arrivals.append((now + answer[0], what, answer[1]))
        deadline = netcheck.poll_timeout()
        if deadline is None:
            break
        assert deadline.when >= now
        arrivals.sort(key=lambda arrival: arrival[0])
        if arrivals and arrivals[0][0] <= deadline.when:
            now, what, mapped = arrivals.pop(0)
            if isinstance(what, int):
                netcheck.handle_https_latency(what, 0.1, now)
            else:
                netcheck.handle_stun(what, mapped, now)
        else:
            now = deadline.when
            netcheck.handle_timeout(now)
    report = netcheck.poll_report()
    assert report is not None, "the run did not end"
    assert report.taken_at <= started_at + 5.0
    assert report.preferred_derp == 0 or report.region_latency
    return now
