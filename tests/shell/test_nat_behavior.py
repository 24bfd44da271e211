"""The questions of RFC 5780, asked over real sockets of our own STUN servers."""

from coderd.daemon.diagnosis.nat_behavior import examine
from coderd.netcheck.mapped_address import HostAddresses
from coderd.netcheck.nat_behavior import UNKNOWN_BEHAVIOR, Filtering, NatBehavior
from tests.shell.test_stun_responder import responder

HERE = HostAddresses(frozenset({"127.0.0.1"}))
SIZE = 1312


async def test_a_server_with_two_addresses_tells_that_nothing_filters() -> None:
    places = [("127.0.0.1", 0), ("127.0.0.1", 0), ("127.0.0.2", 0)]
    async with responder(*places) as (server, *_):
        found = await examine(server, HERE, SIZE)
    assert found == NatBehavior(Filtering.ENDPOINT_INDEPENDENT, False, None, True)


async def test_a_server_with_two_ports_tells_that_ports_are_not_filtered() -> None:
    async with responder(("::", 0), ("::", 0)) as (server, _):
        found = await examine(("127.0.0.1", server[1]), HERE, SIZE)
    assert found == NatBehavior(Filtering.UNKNOWN, False, None, True)


async def test_a_server_with_one_port_tells_only_what_comes_through() -> None:
    async with responder(("127.0.0.1", 0)) as (server,):
        assert await examine(server, HERE, SIZE) == NatBehavior(carries_full=True)


async def test_a_silent_server_tells_nothing() -> None:
    assert await examine(("127.0.0.1", 9), HERE, SIZE) == UNKNOWN_BEHAVIOR
