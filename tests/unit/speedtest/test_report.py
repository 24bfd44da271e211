import msgspec

from coderd.speedtest.paths import PathLabel
from coderd.speedtest.plan import Direction
from coderd.speedtest.report import CarryingPath, latency_line, report, start_line, table
from coderd.speedtest.tally import Interval, overall

BLOCK = 32_000
"""The documented sample's transfers are multiples of this many bytes."""

TOTAL_END = 4283.6480 / 853.8217
LAST_START = TOTAL_END - 13.5680 / 828.8189
ENDS = (630.7840 / 630.7404, 630.7840 / 630.7404 + 913.9200 / 913.8106, 3.0003, 4.0004, LAST_START, TOTAL_END)
MEGABITS = (630.7840, 913.9200, 913.9200, 913.9200, 897.5360, 13.5680)


def sample_rows() -> tuple[Interval, ...]:
    """The documented sample: rows whose lengths follow from its own arithmetic, where it shows them."""
    starts = (0.0, *ENDS)
    return tuple(
        Interval(start, end, round(megabits * 1e6 / 8))
        for start, end, megabits in zip(starts, ENDS, MEGABITS, strict=False)
    )


def test_the_table_looks_as_it_always_has() -> None:
    lines = table(sample_rows())
    assert lines[:3] == [
        "INTERVAL       TRANSFER         BANDWIDTH           ",
        "0.00-1.00 sec  630.7840 MBits   630.7404 Mbits/sec  ",
        "1.00-2.00 sec  913.9200 MBits   913.8106 Mbits/sec  ",
    ]
    assert lines[-3:] == [
        "5.00-5.02 sec  13.5680 MBits    828.8189 Mbits/sec  ",
        "----------------------------------------------------",
        "0.00-5.02 sec  4283.6480 MBits  853.8217 Mbits/sec  ",
    ]


def test_the_samples_transfers_add_up_and_are_whole_blocks() -> None:
    rows = sample_rows()
    assert overall(rows).megabits == 4283.6480
    assert all(row.n_bytes % BLOCK == 0 for row in rows)


def test_columns_widen_with_their_cells() -> None:
    lines = table((Interval(0.0, 1.0, 2_500_000_000_000), Interval(1.0, 123.456, 1)))
    assert len({len(line) for line in lines}) == 1
    assert set(lines[-2]) == {"-"}
    assert all(line.endswith("  ") for line in lines if "-" * 10 not in line)


def test_the_first_line_names_the_path() -> None:
    assert latency_line("relay", "coder", 29.7) == "29ms via coder"
    assert latency_line("direct", "203.0.113.7:41641", 9.2) == "9ms via direct (203.0.113.7:41641)"
    assert latency_line("direct", "[2001:db8::7]:41641", 0.4) == "<1ms via direct ([2001:db8::7]:41641)"


def test_the_second_line_names_length_and_direction() -> None:
    assert start_line(5.0, Direction.DOWN) == "Starting a 5s download test..."
    assert start_line(0.5, Direction.UP) == "Starting a 0.5s upload test..."


def test_the_json_carries_the_path_of_each_interval() -> None:
    rows = (Interval(0.0, 1.0, 125_000), Interval(1.0, 2.0, 250_000))
    path = CarryingPath(kind=PathLabel.MIXED, via="coder", latency_ms=29.0)
    told = msgspec.json.decode(
        msgspec.json.encode(report("dev", Direction.DOWN, path, rows, [PathLabel.RELAY, PathLabel.DIRECT]))
    )
    assert told == {
        "workspace": "dev",
        "direction": "down",
        "path": {"kind": "mixed", "via": "coder", "latency_ms": 29.0},
        "intervals": [
            {
                "start_time_seconds": 0.0,
                "end_time_seconds": 1.0,
                "megabits": 1.0,
                "throughput_mbits": 1.0,
                "path": "relay",
            },
            {
                "start_time_seconds": 1.0,
                "end_time_seconds": 2.0,
                "megabits": 2.0,
                "throughput_mbits": 2.0,
                "path": "direct",
            },
        ],
        "overall": {
            "start_time_seconds": 0.0,
            "end_time_seconds": 2.0,
            "megabits": 3.0,
            "throughput_mbits": 1.5,
            "path": "mixed",
        },
    }
