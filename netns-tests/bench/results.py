"""Figures of alternating rounds.

Medians with their ranges, ratios to the others, and their two written forms.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

OURS = "ours"


@dataclass
class Result:
    """What one case measured of each contender, round by round."""

    case: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """One round's figure of a contender."""
        self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """A contender's figure."""
        return statistics.median(self.values[name])

    def ratio(self, name: str) -> float | None:
        """Ours to another's; None where that is nothing to divide by."""
        return self.median(OURS) / other if (other := self.median(name)) > 0 else None

    @property
    def peers(self) -> list[str]:
        """All contenders but ours."""
        return [name for name in self.values if name != OURS]

    def as_json(self) -> dict[str, object]:
        """Medians and ratios, with minimum and maximum beside."""
        ratios = {name: self.ratio(name) for name in self.peers}
        return {
            "case": self.case,
            "unit": self.unit,
            OURS: round(self.median(OURS), 3),
            "peers": {name: round(self.median(name), 3) for name in self.peers},
            "ratio": {name: None if ratio is None else round(ratio, 3) for name, ratio in ratios.items()},
            "range": {name: [round(min(v), 3), round(max(v), 3)] for name, v in self.values.items()},
        }

    def cell(self, name: str) -> str:
        """A contender's figure for people: ``1.05 (0.98–1.10)``."""
        values = self.values[name]
        spread = f" ({_figure(min(values))}–{_figure(max(values))})" if len(values) > 1 else ""
        return f"{_figure(self.median(name))}{spread}"


class Results:
    """All cases of a run, in the order in which they were first measured."""

    def __init__(self) -> None:
        self._by_case: dict[str, Result] = {}

    def add(self, case: str, unit: str, name: str, value: float) -> None:
        """One round's figure of a contender in a case."""
        self._by_case.setdefault(case, Result(case, unit)).add(name, value)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._by_case.values())

    def __getitem__(self, case: str) -> Result:
        return self._by_case[case]


def comparison(results: Sequence[Result]) -> str:
    """A table of ours beside all others."""
    peers = results[0].peers
    rows = [["case", "unit", OURS, *peers, *(f"{OURS} / {name}" for name in peers)]]
    for result in results:
        ratios = [result.ratio(name) for name in peers]
        rows.append(
            [
                result.case,
                result.unit,
                *(result.cell(name) for name in (OURS, *peers)),
                *("–" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
            ]
        )
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


def _figure(value: float) -> str:
    """Three digits or so."""
    size = abs(value)
    return f"{value:,.{3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0}f}"
