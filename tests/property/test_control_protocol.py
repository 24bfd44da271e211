import contextlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from coderd.control.messages import METHODS, PING
from coderd.control.protocol import LineSplitter, Refusal, parse_request
from coderd.model.errors import MalformedPacket, UserError
from coderd.peerapi.message import parse_dial_reply, parse_facts_reply, parse_node_request
from tests.control_answers import parse_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_lines_are_the_same_however_the_stream_is_cut(chunks: list[bytes]) -> None:
    splitter = LineSplitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    assert lines == b"".join(chunks).split(b"\n")[:-1]


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(1, 20))
def test_no_line_and_no_rest_ever_reaches_the_limit(chunks: list[bytes], limit: int) -> None:
    splitter = LineSplitter(limit)
    try:
        for chunk in chunks:
            assert all(len(line) < limit for line in splitter.feed(chunk))
    except MalformedPacket:
        assert max(map(len, b"".join(chunks).split(b"\n"))) >= limit
    else:
        assert all(len(line) < limit for line in b"".join(chunks).split(b"\n"))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_refusal(line: bytes) -> None:
    with contextlib.suppress(Refusal):
        parse_request(line)


@given(st.sampled_from(sorted(METHODS)), JSON)
def test_any_params_are_taken_or_refused(method: str, params: object) -> None:
    line = msgspec.json.encode({"v": 1, "id": 1, "method": method, "params": params})
    with contextlib.suppress(Refusal):
        assert isinstance(parse_request(line).params, METHODS[method].params)


@given(st.binary(max_size=200) | JSON.map(msgspec.json.encode))
def test_any_bytes_are_an_answer_an_error_or_malformed(line: bytes) -> None:
    with contextlib.suppress(MalformedPacket, UserError):
        parse_answer(PING, 1, line)


@given(st.binary(max_size=200))
def test_any_bytes_to_the_node_api_are_a_request_or_malformed(line: bytes) -> None:
    for parse in (parse_node_request, parse_dial_reply, parse_facts_reply):
        with contextlib.suppress(MalformedPacket, UserError):
            parse(line)
