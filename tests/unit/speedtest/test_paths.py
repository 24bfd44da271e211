import pytest

from coderd.speedtest.paths import PathBytes, PathLabel, PathSamples, label


def log(*samples: tuple[float, int, int]) -> PathSamples:
    made = PathSamples()
    for sample in samples:
        made.add(*sample)
    return made


def test_bytes_between_samples_are_read_off_the_counters() -> None:
    counted = log((0.0, 100, 1000), (1.0, 100, 2000), (2.0, 5100, 2000))
    assert counted.between(0.0, 1.0) == PathBytes(0, 1000)
    assert counted.between(1.0, 2.0) == PathBytes(5000, 0)
    assert counted.between(0.0, 2.0) == PathBytes(5000, 1000)


def test_between_two_samples_bytes_flow_evenly() -> None:
    assert log((0.0, 0, 0), (1.0, 100, 0)).between(0.25, 0.75) == PathBytes(50, 0)


def test_beyond_the_samples_nothing_flows() -> None:
    counted = log((1.0, 10, 0), (2.0, 20, 0))
    assert counted.between(-5.0, 1.0) == PathBytes(0, 0)
    assert counted.between(0.0, 9.0) == PathBytes(10, 0)
    assert log().between(0.0, 1.0) == PathBytes(0, 0)


@pytest.mark.parametrize(
    ("carried", "expected"),
    [
        (PathBytes(1000, 0), "direct"),
        (PathBytes(0, 1000), "relay"),
        (PathBytes(1000, 5), "direct"),
        (PathBytes(5, 1000), "relay"),
        (PathBytes(500, 500), "mixed"),
        (PathBytes(980, 20), "mixed"),
        (PathBytes(0, 0), "relay"),
    ],
)
def test_a_path_is_named_by_who_carried_the_bytes(carried: PathBytes, expected: str) -> None:
    assert label(carried, PathLabel.RELAY) == expected
