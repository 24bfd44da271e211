"""Homes that are no more: gone from the map, or their relay silent while STUN goes on.

The next nearest takes over.
"""

from collections.abc import Collection
from random import Random

from coderd.magicsock import HomeChanged
from coderd.magicsock.home import FIRST_PATIENCE, PATIENCE, Home
from coderd.magicsock.local_network import LocalNetwork
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.stun import encode_response, parse_request

T = 1000.0
DELAYS = {1: 0.010, 2: 0.080, 3: 0.040, 4: 0.001}
STUN_ONLY = 4


def region(number: int) -> DerpRegion:
    node = DerpNode(
        f"{number}a",
        number,
        "relay.test",
        ipv4=f"192.0.2.{number}",
        ipv6="none",
        stun_only=number == STUN_ONLY,
    )
    return DerpRegion(number, f"r{number}", f"Region {number}", (node,))


def world(*numbers: int) -> DerpMap:
    return DerpMap({number: region(number) for number in numbers})


def homes(local_network: LocalNetwork) -> list[int]:
    events = iter(local_network.poll_event, None)
    return [event.region for event in events if isinstance(event, HomeChanged)]


def measure(
    local_network: LocalNetwork, start: float, *, without_relay: Collection[int] = (), seconds: float = 8.0
) -> None:
    """Answers every probe after its region's delay, for some seconds; relays connect but for those."""
    now, answers = start, list[tuple[float, bytes]]()
    while now < start + seconds:
        if local_network.home and local_network.home not in without_relay:
            local_network.handle_relay_connected(local_network.home)
        while (probe := local_network.poll_probe()) is not None:
            delay = DELAYS[int(probe.addr[0].rpartition(".")[2])]
            answers.append((now + delay, encode_response(parse_request(probe.datagram), ("198.51.100.9", 4))))
        answers.sort()
        deadline = local_network.poll_timeout()
        if answers and (deadline is None or answers[0][0] <= deadline.when):
            now, response = answers.pop(0)
            local_network.handle_stun(response, now)
        else:
            assert deadline is not None
            now = max(now, deadline.when)
            local_network.handle_timeout(now)


def settled(*numbers: int) -> LocalNetwork:
    local_network = LocalNetwork(rng=Random(1).randbytes)
    local_network.set_local_endpoints(41641, None, ["10.0.0.1"], T)
    local_network.set_derp_map(world(*numbers), {}, T)
    measure(local_network, T)
    return local_network


def test_the_nearest_region_with_a_relay_is_home() -> None:
    assert homes(settled(1, 2, 3, 4)) == [1]


def test_a_node_whose_home_is_gone_lives_in_the_next_nearest_at_once() -> None:
    local_network = settled(1, 2, 3, 4)
    homes(local_network)
    local_network.set_derp_map(world(2, 3, 4), {}, T + 10)
    assert homes(local_network) == [3]
    measure(local_network, T + 10)
    assert homes(local_network) == []


def test_among_regions_never_measured_there_is_no_home_until_they_are() -> None:
    local_network = settled(1)
    assert homes(local_network) == [1]
    local_network.set_derp_map(world(2, 3), {}, T + 10)
    assert homes(local_network) == [0]
    measure(local_network, T + 10)
    assert homes(local_network) == [3]


def test_a_home_whose_relay_stays_away_is_left_for_the_next_nearest_within_seconds() -> None:
    local_network = settled(1, 2, 3)
    homes(local_network)
    local_network.handle_relay_broken(1, T + 10)
    measure(local_network, T + 10, without_relay=(1,))
    assert homes(local_network) == [3]
    assert local_network.home == 3


def test_a_relay_that_never_answers_is_nobodys_home_however_near() -> None:
    local_network = LocalNetwork(rng=Random(1).randbytes)
    local_network.set_local_endpoints(41641, None, ["10.0.0.1"], T)
    local_network.set_derp_map(world(1, 2, 3), {}, T)
    measure(local_network, T, without_relay=(1, 3), seconds=2 * FIRST_PATIENCE + 1)
    assert homes(local_network) == [1, 3, 2]


def test_a_relay_that_restarts_at_once_stays_home() -> None:
    local_network = settled(1, 2, 3)
    homes(local_network)
    local_network.handle_relay_broken(1, T + 10)
    local_network.handle_relay_connected(1)
    local_network.check(T + 10)
    measure(local_network, T + 10)
    assert homes(local_network) == []


def test_where_nothing_answers_any_more_home_stays_where_it_was() -> None:
    local_network = settled(1, 2, 3)
    homes(local_network)
    local_network.handle_relay_broken(1, T + 10)
    now = T + 10.0
    while now < T + 40 and (deadline := local_network.poll_timeout()) is not None:
        now = deadline.when
        local_network.handle_timeout(now)
        while local_network.poll_probe() is not None:
            pass
        for number in (1, 2, 3):
            local_network.handle_https_latency(number, None, now)
    assert homes(local_network) == []


def test_a_home_is_left_also_for_a_relay_whose_stun_is_blocked_and_while_another_look_is_under_way() -> None:
    local_network = settled(1, STUN_ONLY)
    local_network.set_derp_map(world(1, 2, STUN_ONLY), {}, T + 10)
    homes(local_network)
    local_network.handle_relay_broken(1, T + 20)
    now = T + PATIENCE + 19.9
    local_network.check(now)
    answers = list[tuple[float, bytes]]()
    while now < T + 40:
        while (probe := local_network.poll_probe()) is not None:
            if probe.addr[0] == f"192.0.2.{STUN_ONLY}":
                answers.append(
                    (now + 0.001, encode_response(parse_request(probe.datagram), ("198.51.100.9", 4)))
                )
        if local_network.home == 2:
            return
        deadline = local_network.poll_timeout()
        assert deadline is not None
        now = max(now, min([deadline.when, *(at for at, _ in answers)]))
        if answers:
            local_network.handle_stun(answers.pop(0)[1], now)
        local_network.handle_timeout(now)
        local_network.handle_https_latency(2, 0.05, now)
    raise AssertionError("the dead relay is still home")


def test_a_dead_relay_that_answers_again_is_home_again_after_a_minute() -> None:
    local_network = settled(1, 2, 3)
    local_network.handle_relay_broken(1, T + 10)
    measure(local_network, T + 10, without_relay=(1,))
    homes(local_network)
    local_network.check(T + 60)
    measure(local_network, T + 60)
    assert homes(local_network) == []
    local_network.check(T + 75)
    measure(local_network, T + 75)
    assert homes(local_network) == [1]


def test_without_a_server_to_tell_peers_a_living_home_is_not_left_for_a_nearer_one() -> None:
    local_network = settled(2)
    homes(local_network)
    local_network.set_derp_map(world(1, 2), {}, T + 10)
    local_network.set_can_tell(False)
    measure(local_network, T + 10)
    assert homes(local_network) == []
    local_network.handle_relay_broken(2, T + 30)
    measure(local_network, T + 30, without_relay=(2,))
    assert homes(local_network) == [1]


def test_homes_that_die_again_and_again_are_given_up_for_longer_each_time() -> None:
    home = Home()
    spans = []
    for at in (0.0, 1000.0, 2000.0):
        home.move(1, at)
        assert not home.handle_timeout(at + PATIENCE)
        assert home.handle_timeout(at + FIRST_PATIENCE)
        spans.append(next(s for s in range(0, 1000, 10) if not home.dead(at + FIRST_PATIENCE + s)))
        home.move(0, at + 500)
    assert spans == [60, 120, 240]
