"""Token buckets with literal clocks."""

from coderd.model.token_bucket import BucketTable, Rate, TokenBucket


def test_a_bucket_allows_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(2.0, 10.0, 100.0)
    assert [bucket.take(5, 100.0) for _ in range(3)] == [True, True, False]
    assert bucket.level(101.0) == 2.0
    assert bucket.level(1000.0) == 10.0


def test_a_clock_that_stands_or_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = TokenBucket(1.0, 4.0, 100.0)
    bucket.drain(1, 100.0)
    assert bucket.level(50.0) == 3.0


def test_a_debt_is_gone_after_the_seconds_that_were_said() -> None:
    bucket = TokenBucket(100.0, 50.0)
    assert bucket.spend(50, 0.0) == 0.0
    assert bucket.spend(25, 0.0) == 0.25
    assert bucket.level(0.25) == 0.0


def test_a_drain_goes_no_lower_than_nothing() -> None:
    bucket = TokenBucket(1.0, 1.5)
    bucket.drain(1, 0.0)
    bucket.drain(1, 0.0)
    assert bucket.level(0.0) == 0.0


def test_what_is_given_back_does_not_exceed_the_burst() -> None:
    bucket = TokenBucket(1.0, 3.0)
    bucket.give(5, 0.0)
    assert bucket.level(0.0) == 3.0


def test_as_many_whole_tokens_are_taken_as_there_are() -> None:
    bucket = TokenBucket(0.5, 3.0)
    assert [bucket.take_some(n, 0.0) for n in (-1, 2, 5, 1)] == [0, 2, 1, 0]
    assert bucket.take_some(5, 3.0) == 1


def test_a_table_keeps_the_buckets_that_were_used_last() -> None:
    table = BucketTable[str](Rate(burst=1, per_second=1), 2)
    assert [table.use(key).take(1, 0.0) for key in ("a", "b", "a", "c")] == [True, True, False, True]
    assert [table.level(key, 0.0) for key in ("a", "b", "c")] == [0, 1, 0]
    table.give("a", 0.0)
    table.give("b", 0.0)
    assert (table.level("a", 0.0), len(table)) == (1, 2)
