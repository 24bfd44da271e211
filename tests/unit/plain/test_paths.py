"""Paths without magicsock: an endpoint per peer, roaming, the source that sticks and when it is forgotten."""

from collections import Counter
from collections.abc import Callable

import pytest

from coderd.model.keys import NodePublic
from coderd.model.transport import LocalAddress, UdpSource, UdpTransmit
from coderd.plain.paths import PlainPaths

PEER, OTHER = NodePublic(bytes([1]) * 32), NodePublic(bytes([2]) * 32)
HERE, THERE = ("192.0.2.1", 1), ("192.0.2.2", 2)
LOCAL = LocalAddress(bytes([10, 0, 0, 1]))


class World:
    """Paths and what they counted."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.paths = PlainPaths(counters=self.counters)

    def heard(self, peer: NodePublic, addr: tuple[str, int], local: LocalAddress | None = None) -> None:
        source, rest = self.paths.handle_udp(UdpSource(addr, local=local), [b"x"], 0.0)
        assert rest == [b"x"]
        self.paths.handle_authenticated(peer, source, 1, 0.0)

    def sent(self, to: NodePublic | UdpSource = PEER) -> UdpTransmit | None:
        self.paths.send(to, [b"data"], 4, 0.0)
        transmit = self.paths.poll_transmit()
        assert transmit is None or isinstance(transmit, UdpTransmit)
        return transmit


@pytest.fixture
def world() -> World:
    return World()


def test_a_configured_endpoint_is_where_it_goes(world: World) -> None:
    world.paths.set_endpoint(PEER, HERE)
    assert world.sent() == UdpTransmit(HERE, [b"data"], 4)
    assert world.paths.poll_transmit() is None


def test_without_an_endpoint_it_is_dropped_and_counted(world: World) -> None:
    assert world.sent() is None
    assert world.counters == {"plain.drop.no_endpoint": 1}


def test_a_peer_is_where_it_was_heard_last_and_hears_us_from_where_it_spoke_to(world: World) -> None:
    world.paths.set_endpoint(PEER, HERE)
    world.heard(PEER, THERE, LOCAL)
    assert world.paths.endpoint(PEER) == THERE
    assert world.sent() == UdpTransmit(THERE, [b"data"], 4, LOCAL)


def test_what_was_not_authenticated_moves_nobody(world: World) -> None:
    world.paths.set_endpoint(PEER, HERE)
    world.paths.handle_udp(UdpSource(THERE, local=LOCAL), [b"x"], 0.0)
    assert world.sent() == UdpTransmit(HERE, [b"data"], 4)


def test_an_answer_to_a_source_goes_there_from_where_it_was_spoken_to_and_touches_no_peer(
    world: World,
) -> None:
    world.paths.set_endpoint(PEER, HERE)
    assert world.sent(UdpSource(THERE, local=LOCAL)) == UdpTransmit(THERE, [b"data"], 4, LOCAL)
    assert world.paths.endpoint(PEER) == HERE


def forget_one(paths: PlainPaths) -> None:
    paths.forget_source(PEER)


def forget_all(paths: PlainPaths) -> None:
    paths.forget_sources()


def forget_address(paths: PlainPaths) -> None:
    paths.forget_local(LOCAL)


def configure_again(paths: PlainPaths) -> None:
    paths.set_endpoint(PEER, THERE)


@pytest.mark.parametrize("forget", [forget_one, forget_all, forget_address, configure_again])
def test_the_source_is_forgotten_and_the_endpoint_stays(
    world: World, forget: Callable[[PlainPaths], None]
) -> None:
    world.heard(PEER, THERE, LOCAL)
    forget(world.paths)
    assert world.sent() == UdpTransmit(THERE, [b"data"], 4)


def test_an_address_that_is_gone_is_forgotten_by_those_who_used_it_alone(world: World) -> None:
    world.heard(PEER, THERE, LOCAL)
    other = LocalAddress(bytes([10, 0, 0, 2]))
    world.heard(OTHER, HERE, other)
    world.paths.forget_local(LOCAL)
    assert world.sent(OTHER) == UdpTransmit(HERE, [b"data"], 4, other)


def test_a_removed_peer_is_nowhere(world: World) -> None:
    world.paths.set_endpoint(PEER, HERE)
    world.paths.remove_peer(PEER)
    world.paths.forget_source(PEER)
    assert world.paths.endpoint(PEER) is None
    assert world.sent() is None


def test_nothing_is_relayed(world: World) -> None:
    assert world.paths.handle_relayed(999, PEER, [b"a", b"b"], 0.0)[1] == []
    assert world.counters == {"plain.drop.relayed": 2}


def test_a_cookie_is_bound_to_address_and_port() -> None:
    assert UdpSource(HERE).cookie_bytes == bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]) + b"\x00\x01"
    assert UdpSource(HERE).cookie_bytes == UdpSource(HERE, local=LOCAL).cookie_bytes
