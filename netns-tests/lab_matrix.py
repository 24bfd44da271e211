"""``scripts/lab matrix``: every topology, what the oracle foretells for it, and what coderd does; a table of both.

The named topologies are each built anew. The grid of NAT kinds is gone through in batches: one laboratory, whose
routers become other NATs from pair to pair, with coderd stopped and conntrack empty in between.
"""

import fnmatch
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import TOPOLOGIES, Lab, LabError, Node, Topology, until
from lab.topology import nat_grid
from oracle import predict

REPORT = Path(__file__).parents[1] / "docs" / "topologies.md"
BATCH = 8
"""Pairs of the grid that one laboratory goes through."""

PATIENCE = 20.0
"""Seconds within which a path foretold to be direct must be so."""
SETTLED = 4.0
"""Seconds after which a path that was not direct by then counts as relayed."""


@dataclass(frozen=True)
class Outcome:
    """What became of one topology."""

    name: str
    got: str
    first_byte: float | None = None
    """Seconds from when both ends saw each other online until the first answer through the tunnel."""
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


ALL = TOPOLOGIES | nat_grid()


def run_matrix(*, jobs: int, only: str | None) -> bool:
    """Go through all, or those whose name matches a pattern; whether each came out as predicted."""
    wanted = [name for name in ALL if only is None or fnmatch.fnmatch(name, only)]
    outcomes: dict[str, Outcome] = {}
    with ProcessPoolExecutor(jobs) as pool:
        pending = [pool.submit(run_batch, batch) for batch in batches(wanted)]
        for done in as_completed(pending):
            for outcome in done.result():
                outcomes[outcome.name] = outcome
                print(row(outcome), flush=True)
    ordered = [outcomes[name] for name in wanted]
    if only is None:
        REPORT.write_text(report(ordered), encoding="utf-8")
    surprises = [outcome for outcome in ordered if not outcome.is_as_predicted]
    print(f"{len(ordered) - len(surprises)} of {len(ordered)} as predicted")
    return bool(ordered) and not surprises


def batches(names: Sequence[str]) -> Iterator[list[str]]:
    """Each named topology by itself, the pairs of the grid by the handful."""
    pairs = [name for name in names if name not in TOPOLOGIES]
    yield from ([name] for name in names if name in TOPOLOGIES)
    yield from (pairs[at : at + BATCH] for at in range(0, len(pairs), BATCH))


def run_batch(names: Sequence[str]) -> list[Outcome]:
    """The outcomes of topologies that differ in the NATs of their routers alone."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(names):  # a laboratory that failed is left, and the next pair gets a new one
        rest = names[len(outcomes) :]
        try:
            with Lab(ALL[rest[0]]) as lab:
                lab.join()
                outcomes.append(measure(lab, rest[0]))
                for name in rest[1:]:
                    become(lab, ALL[name])
                    outcomes.append(measure(lab, name))
        except LabError as error:
            outcomes.append(Outcome(names[len(outcomes)], f"failed: {str(error).splitlines()[0]}"))
    return outcomes


def become(lab: Lab, topology: Topology) -> None:
    """Make the routers of a laboratory those of another topology, with coderd starting afresh behind them."""
    assert topology.dev is not None
    nodes = (lab.dev, lab.user)
    for node in nodes:
        assert node.daemon is not None
        node.daemon.stop()
    lab.internet.change_router("user", topology.user)
    lab.internet.change_router("dev", topology.dev)
    for node in nodes:
        node.restart()


def measure(lab: Lab, name: str) -> Outcome:
    """Ping through the tunnel, its packets full, and watch the path."""
    until(lambda: sees(lab.user, "dev") and sees(lab.dev, "user"), "both to see each other", timeout=40)
    address = str(lab.dev.ask("status")["self"]["address"]).partition("/")[0]
    started = time.monotonic()
    ping = ["ping", "-6", "-n", "-s", "1200", "-W", "2", address]
    until(  # one by one: the tunnel may get its addresses only after the map, and ping gives up without
        lambda: lab.user.host.run([*ping, "-c", "1"], check=False).returncode == 0,
        f"an answer through the tunnel on {name}",
        timeout=40,
    )
    first_byte = time.monotonic() - started
    with lab.user.host.start([*ping, "-i", "0.1", "-w", "60"]):
        patience = PATIENCE if predict(ALL[name]) == "direct" else SETTLED
        direct = time_until(lambda: kinds(lab) == {"direct"}, started, patience)
        if direct is not None:
            return Outcome(name, "direct", first_byte, direct)
        return Outcome(name, " and ".join(sorted(kinds(lab))), first_byte)


def time_until(condition: Callable[[], bool], started: float, patience: float) -> float | None:
    """Seconds from a moment until a condition holds; None if patience ends first."""
    try:
        until(condition, "it", timeout=patience)
    except LabError:
        return None
    return time.monotonic() - started


def peer_of(node: Node, name: str) -> dict[str, Any]:
    """What a node knows of a peer, asked of its control socket since that is quick."""
    status = node.ask("status")
    return next((peer for peer in status["peers"] if peer["name"].rpartition("/")[2] == name), {})


def sees(node: Node, name: str) -> bool:
    """Whether it sees a peer online."""
    return bool(peer_of(node, name).get("online"))


def kinds(lab: Lab) -> set[str]:
    """How the two ends reach each other now."""
    return {
        str(peer_of(lab.user, "dev")["path"]["kind"]),
        str(peer_of(lab.dev, "user")["path"]["kind"]),
    }


def report(outcomes: Sequence[Outcome]) -> str:
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
            "\n## The grid of NAT kinds\n",
            GRID,
            *HEAD,
            *map(row, pairs),
            "",
        ]
    )


def medians(outcomes: Sequence[Outcome]) -> str:
    """One sentence on the times."""
    first = [outcome.first_byte for outcome in outcomes if outcome.first_byte is not None]
    direct = [outcome.direct for outcome in outcomes if outcome.direct is not None]
    return (
        f"first byte after {statistics.median(first):.2f} s, direct after {statistics.median(direct):.2f} s"
    )


def row(outcome: Outcome) -> str:
    """One line of a table."""
    got = outcome.got if outcome.is_as_predicted else f"**{outcome.got}**"
    cells = [f"`{outcome.name}`", predict(outcome.topology), got]
    cells += [seconds(outcome.first_byte), seconds(outcome.direct)]
    return f"| {' | '.join(cells)} |"


def seconds(value: float | None) -> str:
    """A time for the table."""
    return "–" if value is None else f"{value:.2f} s"


HEAD = ["| Topology | Predicted | Got | First byte | Direct |", "|---|---|---|---|---|"]

INTRODUCTION = """\
# Every topology

Written by `scripts/lab matrix`, which builds each in network namespaces, joins both ends, and watches the path between
them. The predictions are those of `netns-tests/oracle.py`, which knows RFC 4787 and nothing of coderd. What each name
stands for: `scripts/lab list` and [lab.md](lab.md).

**{right} of {of} as predicted.** Medians: {medians}. Times count from when both ends saw each other online: until
the first answer to a full-sized ping through the tunnel, and until both ends used the direct path. They are
those of namespaces on one busy machine, to about 0.05 s, and say nothing about a wide-area network.
"""

GRID = """\
Mapping: `easy` is endpoint-independent, `address` address-dependent, `hard` address-and-port-dependent with random
ports, `sequential` the same with ports in sequence. Filtering: `open` is endpoint-independent, `by-address`
address-dependent, `by-port` address-and-port-dependent. Every kind is confirmed by plain sockets and by coturn's
`turnutils_natdiscovery` (`netns-tests/test_nats.py`). Ports are not guessed.
"""
