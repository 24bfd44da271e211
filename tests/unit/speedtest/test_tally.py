from coderd.speedtest.tally import Interval, Tally, overall


def test_rows_are_cut_by_time_however_few_bytes_come() -> None:
    tally = Tally(100.0)
    assert tally.add(10, 100.5) is None
    assert tally.add(0, 101.0) == Interval(0.0, 1.0, 10)
    assert tally.add(0, 102.0) == Interval(1.0, 2.0, 0)


def test_a_row_that_was_cut_late_does_not_shift_the_next() -> None:
    tally = Tally(0.0)
    tally.add(10, 1.003)
    assert tally.next_cut == 2.0
    assert tally.add(20, 2.001) == Interval(1.003, 2.001, 20)


def test_a_stop_of_the_clock_makes_one_long_row() -> None:
    tally = Tally(0.0)
    assert tally.add(10, 3.5) == Interval(0.0, 3.5, 10)
    assert tally.next_cut == 4.0


def test_the_last_partial_row_is_counted() -> None:
    tally = Tally(0.0)
    tally.add(10, 1.0)
    tally.add(5, 1.015)
    assert tally.finish(1.017) == (Interval(0.0, 1.0, 10), Interval(1.0, 1.017, 5))


def test_a_rest_of_ten_milliseconds_joins_the_last_row() -> None:
    tally = Tally(0.0)
    tally.add(10, 1.0)
    tally.add(5, 1.005)
    assert tally.finish(1.005) == (Interval(0.0, 1.005, 15),)


def test_a_test_that_moved_nothing_still_has_a_row() -> None:
    rows = Tally(5.0).finish(5.0)
    assert rows == (Interval(0.0, 0.0, 0),)
    assert overall(rows).throughput_mbits == 0.0


def test_the_total_goes_from_the_start_to_the_end_of_the_last_row() -> None:
    assert overall((Interval(0.0, 1.0, 3), Interval(1.0, 1.5, 4))) == Interval(0.0, 1.5, 7)
