"""Who reaches whom: a matrix of devices and workspaces that fit a screen, else a list. Pure.

A pair has two reports, one from each end. They mostly agree, and then it has one line in its cell; where the
ends differ, which is worth seeing, it has one for each.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from coderd.api.messages import ReachInfo

MAX_MATRIX: Final = 20
"""Nodes of a matrix, both sides together."""
MAX_ROWS: Final = 1000
"""Rows of a list; the API has them all."""
_WORKSPACE: Final = "workspace"


@dataclass(frozen=True, slots=True)
class Way:
    """Reported path, as text."""

    kind: str
    """One of direct, relay and idle; also its CSS class."""
    text: str
    """The kind, with the relay's region."""
    rtt: str
    since: str
    by: str = ""
    """Node that reports this path; empty if both ends agree."""


@dataclass(frozen=True, slots=True)
class Row:
    """Line of the matrix: a device, and its paths to each workspace of the head."""

    name: str
    cells: tuple[tuple[Way, ...], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """Line of the list: one node's report of its path to a peer."""

    node: str
    peer: str
    way: Way


@dataclass(frozen=True, slots=True)
class PathsView:
    """Content of the page: a matrix if it has a head, else a list."""

    counts: tuple[tuple[str, int], ...]
    """Number of reports by kind of path."""
    head: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    lines: tuple[Line, ...] = ()
    n_left_out: int = 0


def view_paths(reaches: Sequence[ReachInfo]) -> PathsView:
    """Returns the reported paths as the page shows them."""
    counts = Counter(_kind(reach) for reach in reaches)
    summary = tuple((kind, counts[kind]) for kind in ("direct", "relay", "idle") if counts[kind])
    if len({name for reach in reaches for name in (reach.node, reach.peer)}) <= MAX_MATRIX:
        head, rows = _matrix(reaches)
        return PathsView(summary, head, rows)
    lines = tuple(Line(reach.node, reach.peer, _way(reach)) for reach in reaches[:MAX_ROWS])
    return PathsView(summary, lines=lines, n_left_out=len(reaches) - len(lines))


def _matrix(reaches: Iterable[ReachInfo]) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    pairs: dict[tuple[str, str], list[ReachInfo]] = {}
    for reach in sorted(reaches, key=_is_workspaces):
        pair = (reach.peer, reach.node) if _is_workspaces(reach) else (reach.node, reach.peer)
        pairs.setdefault(pair, []).append(reach)
    devices, workspaces = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    rows = [
        Row(device, tuple(_cell(pairs.get((device, workspace), [])) for workspace in workspaces))
        for device in devices
    ]
    return tuple(workspaces), tuple(rows)


def _cell(reports: Sequence[ReachInfo]) -> tuple[Way, ...]:
    """Returns one path if both ends report the same, else one for each end."""
    if len({(report.path, report.region) for report in reports}) <= 1:
        return tuple(map(_way, reports[:1]))
    return tuple(_way(report, by=report.node) for report in reports)


def _way(reach: ReachInfo, by: str = "") -> Way:
    text = f"relay {reach.region}" if reach.path == "relay" else _kind(reach)
    rtt = rtt_text(reach.rtt) if reach.path != "none" else ""
    return Way(_kind(reach), text, rtt, age_text(reach.since), by)


def _kind(reach: ReachInfo) -> str:
    return "idle" if reach.path == "none" else reach.path


def _is_workspaces(reach: ReachInfo) -> bool:
    """Returns whether a workspace reports this path; its peer is then a device or the server."""
    return reach.kind == _WORKSPACE


def rtt_text(seconds: float | None) -> str:
    """Formats a round trip as ``12 ms``; empty if it was not measured."""
    if seconds is None:
        return ""
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "<1 ms"


def age_text(seconds: float) -> str:
    """Formats an age as ``12 s``, ``3 min``, ``2 h`` or ``5 d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
