"""What a tunnel lives through, in namespaces and with real daemons: how long it is silent, and that TCP goes on.

::

    user ──[NAT]── core ──[NAT]── dev            server: relay, STUN, coordination

Times are asserted with three times their aim, since everything shares one machine; exactly, they are in ``tests/sim``.
"""

import os
import time

import pytest
from lab import Lab, Site, Topology
from lab.topology import EASY
from lab_scenarios import (
    CEILING,
    SCENARIOS,
    Row,
    line,
    restart_both_without_server,
    roam,
    run_scenarios,
    settle,
    traffic,
)

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(240)]

N_RESTARTS = int(os.environ.get("CODERD_LAB_RESTARTS", "5"))
"""How often both daemons are restarted without a server; the aim is twenty of twenty."""
DEV_IN_THE_OPEN = Topology(
    "the user behind an easy NAT, dev with a public address", user=Site(EASY), dev=Site()
)
BACK_WITHIN = 3.0
"""Seconds from the start of both daemons."""


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    """Every scenario, gone through once."""
    return {row.scenario: row for row in run_scenarios()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_tunnel_lives_through(name: str, rows: dict[str, Row]) -> None:
    row = rows[name]
    assert row.tcp_survived, line(row)
    assert row.gap <= CEILING * SCENARIOS[name].aim, line(row)


def test_without_a_server_both_daemons_restart_and_are_direct_again() -> None:
    with Lab("easy-nat") as lab:
        lab.join()
        settle(lab, "direct")
        assert lab.server.daemon is not None
        lab.server.daemon.kill()
        with traffic(lab) as streams:
            times = []
            for _ in range(N_RESTARTS):
                times.append(restart_both_without_server(lab))
                streams.wait_for_both(time.monotonic(), timeout=5)
            assert max(times) <= BACK_WITHIN, times
            assert streams.tcp_goes_on()


def test_without_a_server_the_user_roams_and_the_peer_that_lets_everybody_in_follows() -> None:
    with Lab(DEV_IN_THE_OPEN) as lab:
        lab.join()
        settle(lab, "direct")
        assert lab.server.daemon is not None
        lab.server.daemon.kill()
        with traffic(lab) as streams:
            roamed_at = roam(lab)
            streams.wait_for_both(roamed_at)
            assert streams.gap(roamed_at) <= CEILING * SCENARIOS["roam"].aim
            assert streams.tcp_goes_on()
            settle(lab, "direct")
