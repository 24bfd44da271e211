"""The mark of handshakes on disk: always ahead of what was sent, rarely written, and enough after a crash."""

import pytest

from coderd.wireguard.tai64n import (
    MARK_AHEAD,
    MARK_RESERVE,
    TimestampClock,
    encode_tai64n,
    next_mark,
    parse_mark,
    stamp_of,
)

NOW = 1_700_000_000


def test_the_first_mark_is_an_hour_ahead() -> None:
    assert next_mark(None, stamp_of(NOW)) == encode_tai64n(NOW + MARK_AHEAD, 0)


def test_a_mark_does_until_half_an_hour_before_it_is_passed() -> None:
    mark = encode_tai64n(NOW, 0)
    assert next_mark(mark, stamp_of(NOW - MARK_RESERVE)) is None
    assert next_mark(mark, stamp_of(NOW - MARK_RESERVE + 0.5)) == encode_tai64n(
        NOW + MARK_AHEAD - MARK_RESERVE, 500_000_000 & ~0xFFFFFF
    )


def test_a_day_of_handshakes_is_some_fifty_marks_and_none_is_ever_passed() -> None:
    mark, n_written, clock = None, 0, TimestampClock()
    for second in range(0, 86_400, 5):
        stamp = clock.stamp(NOW + second)
        assert mark is None or stamp < mark
        if (new := next_mark(mark, stamp)) is not None:
            mark, n_written = new, n_written + 1
    assert n_written == 86_400 // (MARK_AHEAD - MARK_RESERVE)


def test_after_a_crash_and_with_a_clock_that_stepped_back_a_year_timestamps_still_rise() -> None:
    clock = TimestampClock()
    mark = next_mark(None, clock.stamp(NOW))
    assert mark is not None
    last = clock.stamp(NOW + 1700)
    later = TimestampClock(parse_mark(mark.hex()))
    assert last < later.stamp(NOW - 31_536_000) < later.stamp(NOW - 31_536_000)


@pytest.mark.parametrize("text", ["", "40", "zz" * 12, "00" * 12, "80" + "00" * 11, "40" + "00" * 12])
def test_what_is_no_mark_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"TAI64N|hex"):
        parse_mark(text)
