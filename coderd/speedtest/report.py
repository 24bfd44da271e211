"""What a speed test prints: lines in the format that scripts have always parsed, and JSON.

29ms via coder
Starting a 5s download test...
INTERVAL       TRANSFER         BANDWIDTH
0.00-1.00 sec  630.7840 MBits   630.7404 Mbits/sec
...
----------------------------------------------------
0.00-5.02 sec  4283.6480 MBits  853.8217 Mbits/sec

Cells are left-aligned and padded to the widest of their column; two spaces follow every column, the last one
too; the rule is as wide as a row.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from coderd.speedtest.paths import PathLabel
from coderd.speedtest.plan import Direction
from coderd.speedtest.tally import Interval, overall

HEADER = ("INTERVAL", "TRANSFER", "BANDWIDTH")
GAP = "  "


def latency_text(latency_ms: float) -> str:
    """Formats a latency as ``29ms``, or ``<1ms`` below one."""
    return f"{int(latency_ms)}ms" if latency_ms >= 1 else "<1ms"


def latency_line(kind: str, via: str, latency_ms: float) -> str:
    """Returns the first line.

    ``29ms via coder`` by relay, ``9ms via direct (203.0.113.7:41641)`` directly.
    """
    return f"{latency_text(latency_ms)} via {f'direct ({via})' if kind == 'direct' else via}"


def start_line(duration: float, direction: Direction) -> str:
    """Returns the output's second line: duration and direction."""
    return f"Starting a {duration:g}s {direction.word} test..."


def cells(row: Interval) -> tuple[str, str, str]:
    """Returns a row's three cells: interval, transfer, bandwidth."""
    return (
        f"{row.start:.2f}-{row.end:.2f} sec",
        f"{row.megabits:.4f} MBits",
        f"{row.throughput_mbits:.4f} Mbits/sec",
    )


def table(rows: tuple[Interval, ...]) -> list[str]:
    """Returns header, rows, rule and total: a line each."""
    lines = [HEADER, *(cells(row) for row in rows), cells(overall(rows))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    texts = [
        "".join(cell.ljust(width) + GAP for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    texts.insert(-1, "-" * len(texts[0]))
    return texts


class CarryingPath(msgspec.Struct, frozen=True, kw_only=True):
    """Which path carried the test."""

    kind: PathLabel
    via: str
    latency_ms: float


class IntervalReport(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    start_time_seconds: float
    end_time_seconds: float
    megabits: float
    throughput_mbits: float
    path: PathLabel


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole test, as ``--json`` shows it."""

    workspace: str
    direction: Literal["down", "up"]
    path: CarryingPath
    intervals: tuple[IntervalReport, ...]
    overall: IntervalReport


def report(
    workspace: str,
    direction: Direction,
    path: CarryingPath,
    rows: tuple[Interval, ...],
    labels: Sequence[PathLabel],
) -> Report:
    """Puts the JSON form together; ``labels`` names each row's path, ``path.kind`` the whole test's."""
    return Report(
        workspace=workspace,
        direction="down" if direction is Direction.DOWN else "up",
        path=path,
        intervals=tuple(_interval(row, label) for row, label in zip(rows, labels, strict=True)),
        overall=_interval(overall(rows), path.kind),
    )


def _interval(row: Interval, label: PathLabel) -> IntervalReport:
    return IntervalReport(
        start_time_seconds=row.start,
        end_time_seconds=row.end,
        megabits=row.megabits,
        throughput_mbits=row.throughput_mbits,
        path=label,
    )
