"""What a tunnel lives through, in namespaces and with real daemons.

How long it is silent, and that TCP goes on.

::

    user ──[NAT]── core ──[NAT]── dev            server: relay, STUN, coordination

Times are asserted with three times their aim, since everything shares one machine; exactly, they are in
``tests/sim``.
"""

import os
import time

import pytest
from lab import Lab, Site, Topology, until
from lab.topology import EASY
from lab_scenarios import (
    CEILING,
    SCENARIOS,
    WATCH,
    Row,
    line,
    restart_both_without_server,
    roam,
    run_scenarios,
    settle,
    traffic,
)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.alone("measures how long paths are silent"),
]

N_RESTARTS = int(os.environ.get("CODERD_LAB_RESTARTS", "3"))
"""How often both daemons are restarted without a server; the aim is twenty of twenty."""
DEV_IN_THE_OPEN = Topology(
    "the user behind an easy NAT, dev with a public address", user=Site(EASY), dev=Site()
)
BACK_WITHIN = 3.0
"""Seconds from the start of both daemons."""
LOST_REGION = 3.0
"""Seconds of silence when the relay at which one end listens is gone for good."""
NO_STUN = """
table inet far {{
    chain forward {{
        type filter hook forward priority filter
        ip daddr {address} udp dport 3478 drop
    }}
}}"""


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


def give_homes_of_their_own(lab: Lab) -> None:
    """Before they join: STUN answers the user from the first relay alone, and dev from the second.

    TCP passes everywhere.
    """
    for site, far in (("user", lab.relays[1]), ("dev", lab.relays[0])):
        lab.internet.routers[site].nft(NO_STUN.format(address=far.address))


def test_where_each_end_has_a_home_of_its_own_the_end_of_one_is_a_moment_s_silence() -> None:
    with Lab("two-regions") as lab:
        give_homes_of_their_own(lab)
        lab.join()
        assert [node.ask("status")["home_region"]["id"] for node in (lab.user, lab.dev)] == [1, 2]
        with traffic(lab) as streams:
            settle(lab, "relay")
            killed_at = time.monotonic()
            lab.relays[1].kill()
            streams.wait_for_both(killed_at)
            until(lambda: lab.dev.ask("status")["home_region"]["id"] == 1, "dev to move to the other region")
            time.sleep(WATCH)
            gap = streams.gap(killed_at)
            assert gap <= LOST_REGION, f"silent for {gap:.2f} s"
            assert streams.tcp_goes_on()
