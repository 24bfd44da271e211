"""When nodes are told to come back to a server that ends."""

import random
from itertools import islice

from coderd.coordination.farewell import EARLIEST_MS, MAX_SPREAD_MS, PER_NODE_MS, farewells


def times(n_nodes: int, n: int) -> list[int]:
    rng = random.Random(7).randbytes
    return [farewell.after_ms for farewell in islice(farewells(n_nodes, rng), n)]


def test_a_lone_node_is_back_as_soon_as_a_server_can_be() -> None:
    (only,) = times(1, 1)
    assert EARLIEST_MS <= only < EARLIEST_MS + PER_NODE_MS


def test_a_crowd_is_spread_evenly_over_a_time_that_grows_with_it() -> None:
    spread = PER_NODE_MS * 1000
    quarters = [0, 0, 0, 0]
    for after_ms in times(1000, 1000):
        quarters[4 * (after_ms - EARLIEST_MS) // spread] += 1
    assert all(200 < quarter < 300 for quarter in quarters)


def test_nobody_waits_longer_than_the_limit() -> None:
    assert max(times(1_000_000, 1000)) < EARLIEST_MS + MAX_SPREAD_MS
