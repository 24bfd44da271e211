"""A day in a second: two peers, everything that may happen to them in a day, and still they talk at midnight."""

from functools import partial
from itertools import pairwise

import pytest

from coderd.wireguard import HandshakeCompleted
from tests.sim.net import Wire
from tests.sim.wireguard.net import Net
from tests.unit.wireguard.support import Source

HOUR = 3600
DAY = 24 * HOUR
EVERY = 60


def move(net: Net, name: str, source: Source) -> None:
    """Gives a node another address."""
    net.nodes[name].source = source


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_day_of_loss_moves_cuts_and_restarts_ends_with_a_tunnel_that_works(seed: int) -> None:
    net = Net(seed=seed, wire=Wire(loss=0.05, duplicate=0.05, delay=0.02, jitter=0.5))
    for number in range(DAY // EVERY):
        net.at(number * EVERY, partial(net.send, "a", number))
        net.at(number * EVERY + 7, partial(net.send, "b", number))
    for hour in range(1, 24):
        at = hour * HOUR + 31.0
        name = "ab"[hour % 2]
        moved = Source(bytes([10, 0, hour, hour % 2, 16, 1]))
        if hour % 3 == 0:
            net.at(at, lambda: setattr(net.wire, "is_cut", True))
            net.at(at + 400, lambda: setattr(net.wire, "is_cut", False))
        elif hour % 3 == 1:
            net.at(at, partial(net.restart, name))
        else:
            net.at(at, partial(move, net, name, moved))
    net.run_until(float(DAY))
    for name in "ab":
        delivered = net.delivered(name)
        assert max(delivered.values()) == 1
        assert any(number > DAY // EVERY - 4 for number in delivered)


@pytest.mark.slow
def test_a_day_of_steady_traffic_renews_its_keys_every_two_minutes_and_loses_nothing() -> None:
    net = Net()
    n = DAY // 30
    for number in range(n):
        net.at(number * 30.0, partial(net.send, "a", number))
        net.at(number * 30.0 + 1.0, partial(net.send, "b", number))
    net.run_until(float(DAY))
    completed = net.a.events_of(HandshakeCompleted)
    assert all(120.0 < later - earlier <= 151.0 for earlier, later in pairwise(completed))
    for name in "ab":
        assert net.delivered(name) == dict.fromkeys(range(n), 1)
