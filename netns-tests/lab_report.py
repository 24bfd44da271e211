"""docs/topologies.md: what became of each topology, beside what was foretold."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import TOPOLOGIES, Topology
from lab.named import nat_grid
from lab_birthday import section
from lab_scenarios import CEILING, SCENARIOS, Row, is_good
from oracle import predict

REPORT = Path(__file__).parents[1] / "docs" / "topologies.md"

ALL = TOPOLOGIES | nat_grid()


@dataclass(frozen=True)
class Outcome:
    """What became of one topology."""

    name: str
    got: str
    first_byte: float | None = None
    """Seconds from when each end had the other online until the first answer through the tunnel."""
    direct: float | None = None
    """The same until both ends used the direct path."""

    @property
    def topology(self) -> Topology:
        """What it became of."""
        return ALL[self.name]

    @property
    def is_as_predicted(self) -> bool:
        """Whether the oracle was right."""
        return self.got == predict(self.topology)


def report(
    outcomes: Sequence[Outcome], scenarios: Sequence[Row], birthdays: Sequence[float | None] = ()
) -> str:
    """The whole document."""
    named = [outcome for outcome in outcomes if outcome.name in TOPOLOGIES]
    pairs = [outcome for outcome in outcomes if outcome.name not in TOPOLOGIES]
    right = sum(outcome.is_as_predicted for outcome in outcomes)
    return "\n".join(
        [
            INTRODUCTION.format(right=right, of=len(outcomes), medians=medians(outcomes)),
            "## Named topologies\n",
            *HEAD,
            *map(row, named),
            "",
            *stories(named),
            "\n## The grid of NAT kinds\n",
            GRID,
            *HEAD,
            *map(row, pairs),
            "\n## Birthdays\n",
            f"{BIRTHDAYS_SAY}{section(birthdays)}",
            "\n## What a tunnel lives through\n",
            SCENARIOS_SAY.format(ceiling=CEILING),
            *SCENARIO_HEAD,
            *map(scenario_row, scenarios),
            "",
        ]
    )


def medians(outcomes: Sequence[Outcome]) -> str:
    """One sentence on the times."""
    first = [outcome.first_byte for outcome in outcomes if outcome.first_byte is not None]
    direct = [outcome.direct for outcome in outcomes if outcome.direct is not None]
    return f"first byte after {_median(first)}, direct after {_median(direct)}"


def _median(times: Sequence[float]) -> str:
    return seconds(statistics.median(times) if times else None)


def row(outcome: Outcome) -> str:
    """One line of a table."""
    is_right = outcome.is_as_predicted
    cells = [
        f"`{outcome.name}`",
        predict(outcome.topology),
        outcome.got if is_right else f"**{outcome.got}**",
    ]
    cells += [seconds(outcome.first_byte), seconds(outcome.direct)]
    cells.append("as predicted" if is_right else "**differs**")
    return f"| {' | '.join(cells)} |"


def scenario_row(row: Row) -> str:
    """One line of the table of scenarios."""
    scenario = SCENARIOS[row.scenario]
    is_in_time = row.gap <= CEILING * scenario.aim
    met = "aim met" if row.gap <= scenario.aim else "within the ceiling"
    cells = [f"`{row.scenario}`", scenario.says, f"`{row.topology}`", seconds(scenario.aim)]
    cells.append(seconds(row.gap) if is_in_time else f"**{seconds(row.gap)}**")
    cells.append("lives" if row.tcp_survived else "**dies**")
    cells.append(met if is_good(row) else "**differs**")
    return f"| {' | '.join(cells)} |"


def seconds(value: float | None) -> str:
    """A time for the table."""
    return "–" if value is None or math.isinf(value) else f"{value * 1000:.0f} ms"


def stories(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What each name stands for."""
    for outcome in outcomes:
        yield f"- `{outcome.name}`: {outcome.topology.says}."


HEAD = [
    "| Topology | Predicted | Got | First byte | Direct | Verdict |",
    "|---|---|---|---|---|---|",
]

SCENARIO_HEAD = [
    "| Scenario | What happens | Topology | Aim | Gap | TCP | Verdict |",
    "|---|---|---|---|---|---|---|",
]

INTRODUCTION = """\
# Every topology

Written by `scripts/lab matrix`, which builds each in network namespaces, joins both ends, and watches the path between
them. The predictions are those of `netns-tests/oracle.py`, which knows RFC 4787 and nothing of coderd. How the laboratory
works, and what the times mean to the millisecond: [lab.md](lab.md).

**{right} of {of} as predicted.** Medians: {medians}.

Times count from when each end had been told that the other is online: until the first echo of a full datagram through the
tunnel was back, and until both ends used the direct path. They are those of namespaces on one machine, without a wide-area
network's delay.
"""

GRID = """\
Mapping: `easy` is endpoint-independent, `address` address-dependent, `hard` address-and-port-dependent with random
ports, `sequential` the same with ports in sequence. Filtering: `open` is endpoint-independent, `by-address`
address-dependent, `by-port` address-and-port-dependent. Every kind is confirmed by plain sockets and by coturn's
`turnutils_natdiscovery` (`netns-tests/test_nats.py`). Sequential ports are predicted, random ones are not.
"""

BIRTHDAYS_SAY = """\
Random ports can be searched for, where both ends run with `--birthday`; by default no node does, and the grid is without. It is a
matter of luck, so no path is predicted.

"""

SCENARIOS_SAY = """\
The two ends stream datagrams to each other, 5 ms apart, beside one TCP connection, and something happens. The gap is the
longest silence at either end, from the instant at which things could have worked again. The aims are for whole machines; here,
where all share one, the ceiling is {ceiling} times as much, and TCP must live.
"""
