"""The home region is always one that is alive, and a steady network never makes it move."""

from hypothesis import given
from hypothesis import strategies as st

from coderd.netcheck import HomeQuestion, Report, choose_home

latencies = st.dictionaries(st.integers(1, 6), st.floats(0.0, 3.0), max_size=6)
scores = st.dictionaries(st.integers(1, 6), st.floats(-1.0, 3.0), max_size=6)
frames = st.dictionaries(st.integers(1, 6), st.floats(0.0, 1000.0), max_size=6)


def report(at: float, latency: dict[int, float]) -> Report:
    return Report(started_at=at - 0.1, taken_at=at, region_latency=latency)


@given(latencies, st.lists(latencies, max_size=3), st.integers(0, 6), frames, scores)
def test_a_home_was_measured_or_heard(
    latency: dict[int, float],
    earlier: list[dict[int, float]],
    previous: int,
    heard_at: dict[int, float],
    region_score: dict[int, float],
) -> None:
    history = [report(900.0 + index, found) for index, found in enumerate(earlier)]
    home = choose_home(report(1000.0, latency), history, HomeQuestion(previous, heard_at, region_score))
    assert home == 0 or home in latency or (home == previous and home in heard_at)
    assert home != 0 or not latency


@given(latencies, scores)
def test_a_steady_network_keeps_its_home(latency: dict[int, float], region_score: dict[int, float]) -> None:
    first = report(1.0, latency)
    home = choose_home(first, [], HomeQuestion(region_score=region_score))
    again = choose_home(report(30.0, latency), [first], HomeQuestion(home, region_score=region_score))
    assert again == home
