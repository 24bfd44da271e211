import contextlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from coderd.model.errors import MalformedPacket
from coderd.speedtest.plan import objection, parse_start_reply, parse_start_request
from coderd.speedtest.tally import Tally, overall


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_malformed(line: bytes) -> None:
    with contextlib.suppress(MalformedPacket):
        objection(parse_start_request(line))
    with contextlib.suppress(MalformedPacket):
        parse_start_reply(line)


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 3)), max_size=50),
    st.floats(0, 3),
)
def test_no_byte_is_lost_and_rows_follow_each_other(moves: list[tuple[int, float]], rest: float) -> None:
    tally, now = Tally(7.0), 7.0
    for n_bytes, pause in moves:
        now += pause
        tally.add(n_bytes, now)
    rows = tally.finish(now + rest)
    assert overall(rows).n_bytes == sum(n_bytes for n_bytes, _ in moves)
    assert rows[0].start == 0.0
    assert all(one.end == other.start for one, other in pairwise(rows))
    assert all(row.end >= row.start for row in rows)
