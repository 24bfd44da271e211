"""NATs that give each flow a port of its own, opened all the same: in sequence always, at random on wish.

``test_matrix.py`` and ``scripts/lab matrix`` go through the pairs; here data goes by the spare socket, at its
full size.
"""

import json

import pytest
from lab import Lab, Site, Topology
from lab.topology import EASY, NAT_KINDS
from lab_birthday import birthday

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.alone("ports are found by probes within a second"),
]

MEGABYTES = 3


def test_data_flows_through_a_port_that_was_foretold() -> None:
    with Lab(Topology("foretold", user=Site(NAT_KINDS["sequential-by-port"]), dev=Site(EASY))) as lab:
        lab.join()
        lab.user.wait_for_path("dev", "direct", timeout=20)
        lab.dev.wait_for_path("user", "direct", timeout=20)
        lab.internet.watch_server_link()
        with lab.dev.host.start(["iperf3", "--server", "--one-off", "--forceflush"]) as server:
            server.wait_for("listening")
            report = json.loads(
                lab.user.run(
                    ["iperf3", "-c", str(lab.dev.address), "-n", f"{MEGABYTES}M", "--json"], timeout=30
                )
            )
        received = int(report["end"]["sum_received"]["bytes"])
        assert received > 0
        assert lab.internet.server_link_bytes < 0.05 * received
        assert lab.user.path_to("dev") == "direct"


def test_a_random_port_is_found_where_both_ends_wish_it() -> None:
    """One try in fifty misses by nature, hence up to three."""
    assert any(birthday() is not None for _ in range(3))
