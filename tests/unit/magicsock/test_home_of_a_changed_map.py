"""A map that loses this node's home: it moves at once, to what was nearest but for that, before anything is measured anew."""

from random import Random

from coderd.magicsock import HomeChanged
from coderd.magicsock.surroundings import Surroundings
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


def homes(surroundings: Surroundings) -> list[int]:
    events = iter(surroundings.poll_event, None)
    return [event.region for event in events if isinstance(event, HomeChanged)]


def measure(surroundings: Surroundings, start: float) -> None:
    """Answers every probe after its region's delay, for eight seconds."""
    now, answers = start, list[tuple[float, bytes]]()
    while now < start + 8:
        while (probe := surroundings.poll_probe()) is not None:
            delay = DELAYS[int(probe.addr[0].rpartition(".")[2])]
            answers.append((now + delay, encode_response(parse_request(probe.datagram), ("198.51.100.9", 4))))
        answers.sort()
        deadline = surroundings.poll_timeout()
        if answers and (deadline is None or answers[0][0] <= deadline.when):
            now, response = answers.pop(0)
            surroundings.handle_stun(response, now)
        else:
            assert deadline is not None
            now = max(now, deadline.when)
            surroundings.handle_timeout(now)


def settled(*numbers: int) -> Surroundings:
    surroundings = Surroundings(rng=Random(1).randbytes)
    surroundings.set_local_endpoints(41641, None, ["10.0.0.1"], T)
    surroundings.set_derp_map(world(*numbers), {}, T)
    measure(surroundings, T)
    return surroundings


def test_the_nearest_region_with_a_relay_is_home() -> None:
    assert homes(settled(1, 2, 3, 4)) == [1]


def test_a_node_whose_home_is_gone_lives_in_the_next_nearest_at_once() -> None:
    surroundings = settled(1, 2, 3, 4)
    homes(surroundings)
    surroundings.set_derp_map(world(2, 3, 4), {}, T + 10)
    assert homes(surroundings) == [3]
    measure(surroundings, T + 10)
    assert homes(surroundings) == []


def test_among_regions_never_measured_there_is_no_home_until_they_are() -> None:
    surroundings = settled(1)
    assert homes(surroundings) == [1]
    surroundings.set_derp_map(world(2, 3), {}, T + 10)
    assert homes(surroundings) == [0]
    measure(surroundings, T + 10)
    assert homes(surroundings) == [3]
