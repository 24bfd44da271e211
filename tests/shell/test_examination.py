"""The questions of RFC 5780, asked over real sockets of our own STUN servers."""

from coderd.daemon.diagnosis.nat_behavior import examine
from coderd.netcheck.examination import NOT_EXAMINED, Examination, Filtering
from coderd.netcheck.sighting import Here
from tests.shell.test_stun_responder import responder

HERE = Here(frozenset({"127.0.0.1"}))
SIZE = 1312


async def test_a_server_with_two_addresses_tells_that_nothing_filters() -> None:
    places = [("127.0.0.1", 0), ("127.0.0.1", 0), ("127.0.0.2", 0)]
    async with responder(*places) as (server, *_):
        found = await examine(server, HERE, SIZE)
    assert found == Examination(Filtering.ENDPOINT_INDEPENDENT, False, None, True)


async def test_a_server_with_two_ports_tells_that_ports_are_not_filtered() -> None:
    async with responder(("::", 0), ("::", 0)) as (server, _):
        found = await examine(("127.0.0.1", server[1]), HERE, SIZE)
    assert found == Examination(Filtering.UNKNOWN, False, None, True)


async def test_a_server_with_one_port_tells_only_what_comes_through() -> None:
    async with responder(("127.0.0.1", 0)) as (server,):
        assert await examine(server, HERE, SIZE) == Examination(carries_full=True)


async def test_a_silent_server_tells_nothing() -> None:
    assert await examine(("127.0.0.1", 9), HERE, SIZE) == NOT_EXAMINED
