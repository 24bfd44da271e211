import pytest

from coderd.model.errors import MalformedPacket
from coderd.model.paths import Pin
from coderd.speedtest.plan import (
    Direction,
    StartReply,
    StartRequest,
    encode,
    objection,
    parse_start_reply,
    parse_start_request,
    start_request,
)


def test_the_request_is_the_field_s_with_our_path() -> None:
    line = encode(start_request(5.0, Direction.UP, Pin.RELAY))
    assert line == b'{"version":2,"time":5000000000,"direction":1,"path":"relay"}\n'
    assert parse_start_request(line) == start_request(5.0, Direction.UP, Pin.RELAY)


def test_a_client_that_knows_no_path_means_any() -> None:
    request = parse_start_request(b'{"version":2,"time":1000000000,"direction":0}')
    assert request == StartRequest(2, 1_000_000_000, Direction.DOWN, Pin.ANY)


def test_yes_is_an_empty_object() -> None:
    assert encode(StartReply()) == b"{}\n"
    assert parse_start_reply(b"{}") == StartReply()
    assert parse_start_reply(b'{"error":"busy"}').error == "busy"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b'{"version":2}',
        b'{"version":2,"time":-1,"direction":0}',
        b'{"version":2,"time":1,"direction":2}',
    ],
)
def test_what_is_no_request_is_malformed(line: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse_start_request(line)


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (StartRequest(1, 10**9, Direction.DOWN), "version"),
        (StartRequest(2, 0, Direction.DOWN), "seconds"),
        (StartRequest(2, 10**18, Direction.UP), "seconds"),
    ],
)
def test_a_serving_node_says_what_it_objects_to(request_: StartRequest, word: str) -> None:
    assert word in objection(request_)
    assert objection(StartRequest(2, 5 * 10**9, Direction.UP)) == ""
