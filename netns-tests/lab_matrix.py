"""``scripts/lab matrix``: a table of all topologies, what the oracle foretells and what coderd does.

The named topologies are each built anew. The grid of NAT kinds is gone through in batches: one laboratory,
whose routers become other NATs from pair to pair, with coderd stopped and conntrack empty in between.

Each batch has a process of its own (`lab.workers`). What happened when is read from the daemons' logs and
from a probe in the tunnel, all on one clock; this program only waits until it has happened.
"""

import fnmatch
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import lab_scenarios
from lab import TOPOLOGIES, Lab, LabError, Node, Topology, until
from lab.journal import Entry, entries
from lab.probe import Probe
from lab.workers import in_processes
from lab_birthday import birthdays, section
from lab_report import ALL, REPORT, Outcome, report, row, scenario_row
from lab_scenarios import SCENARIOS, Row, is_good
from oracle import predict

BATCH = 8
"""Pairs of the grid that one laboratory goes through."""

BIRTHDAYS = 6
"""Tries at finding random ports, which is a matter of luck."""

PATIENCE = 20.0
"""Seconds within which a path foretold to be direct must be so."""
SETTLED = 4.0
"""Seconds after the first byte after which a path that was not direct by then counts as relayed."""


def run_matrix(*, jobs: int, only: str | None) -> bool:
    """Go through all, or what has a name that matches a pattern; whether each came out as it should."""
    outcomes = run_topologies([name for name in ALL if is_wanted(name, only)], jobs=jobs)
    tries = run_birthdays(BIRTHDAYS if is_wanted("birthday", only) else 0, jobs=jobs)
    rows = run_scenarios([name for name in SCENARIOS if is_wanted(name, only)])
    if only is None:
        REPORT.write_text(report(outcomes, rows, tries), encoding="utf-8")
    verdicts = [outcome.is_as_predicted for outcome in outcomes] + [is_good(row) for row in rows]
    print(f"{sum(verdicts)} of {len(verdicts)} as predicted and in time")
    return bool(verdicts or tries) and all(verdicts)


def is_wanted(name: str, only: str | None) -> bool:
    """Whether a name is to be gone through. Only a pattern with a slash means pairs of NATs."""
    return only is None or (("/" in name) == ("/" in only) and fnmatch.fnmatch(name, only))


def run_topologies(wanted: Sequence[str], *, jobs: int) -> list[Outcome]:
    """What becomes of each, in their order; told as it comes."""
    outcomes: dict[str, Outcome] = {}
    with closing(in_processes(run_batch, batches(wanted), jobs=jobs)) as coming:
        for outcome in coming:
            outcomes[outcome.name] = outcome
            print(row(outcome), flush=True)
    return [outcomes[name] for name in wanted]


def run_birthdays(n_tries: int, *, jobs: int) -> list[float | None]:
    """Seconds of each try until the path was direct, None where it was not.

    The oracle says nothing of them.
    """
    with closing(in_processes(lambda _: birthdays(1), range(n_tries), jobs=jobs)) as coming:
        tries = list(coming)
    if tries:
        print(section(tries), flush=True)
    return tries


def run_scenarios(wanted: Sequence[str]) -> list[Row]:
    """What becomes of each scenario; told as it comes.

    One at a time: what else runs here would lengthen a gap.
    """
    rows = []
    with closing(in_processes(run_scenario, wanted, jobs=1)) as coming:
        for found in coming:
            rows.append(found)
            print(scenario_row(found), flush=True)
    return rows


def run_scenario(name: str) -> Iterator[Row]:
    """One of them, in a laboratory of its own; one that fails has been silent for ever."""
    try:
        yield from lab_scenarios.run_scenarios(name)
    except Exception:
        traceback.print_exc()
        yield Row(name, SCENARIOS[name].topology, math.inf, tcp_survived=False)


def batches(names: Sequence[str]) -> Iterator[list[str]]:
    """Each named topology by itself, the pairs of the grid by the handful."""
    pairs = [name for name in names if name not in TOPOLOGIES]
    yield from ([name] for name in names if name in TOPOLOGIES)
    yield from (pairs[at : at + BATCH] for at in range(0, len(pairs), BATCH))


def run_batch(names: Sequence[str]) -> Iterator[Outcome]:
    """The outcomes of topologies that differ in the NATs of their routers alone."""
    rest = list(names)
    while rest:  # a laboratory that failed is left, and the next pair gets a new one
        try:
            with Lab(ALL[rest[0]]) as lab:
                address = lab.join_dev()
                with Probe(lab.user, lab.dev, address) as probe:
                    lab.join_user()
                    yield watch(lab, probe, rest[0])
                del rest[0]
                while rest:
                    change(lab, ALL[rest[0]])
                    with Probe(lab.user, lab.dev, address) as probe:
                        lab.user.restart()
                        yield watch(lab, probe, rest[0])
                    del rest[0]
        except Exception as error:  # whatever it is, it is this topology's outcome, and the others go on
            traceback.print_exc()
            yield Outcome(rest.pop(0), f"failed: {first_line(error)}")


def first_line(error: Exception) -> str:
    """As much of an error as a table can hold."""
    return str(error).partition("\n")[0] or type(error).__name__


def change(lab: Lab, topology: Topology) -> None:
    """Make the routers of a laboratory those of another topology.

    Of coderd dev alone is there then, starting afresh.
    """
    assert topology.dev is not None
    for node in (lab.user, lab.dev):
        assert node.daemon is not None
        node.daemon.stop()
        node.forget_netmap()
    lab.internet.change_router("user", topology.user)
    lab.internet.change_router("dev", topology.dev)
    lab.dev.restart()


def watch(lab: Lab, probe: Probe, name: str) -> Outcome:
    """Wait until data flows and the path has settled; then say what happened when."""
    until(lambda: probe.first_at, f"an answer through the tunnel on {name}", timeout=60)
    first_at = probe.first_at
    assert first_at is not None
    if lab.topology.service.loses_relay:
        lose_relay(lab, probe)
    patience = PATIENCE if predict(ALL[name]) == "direct" else SETTLED
    comes_in_time(lambda: direct_at(lab.user) and direct_at(lab.dev), patience)
    got = " and ".join(sorted(kinds(lab)))
    joined = max(online_at(lab.user), online_at(lab.dev))
    direct = [at - joined for node in (lab.user, lab.dev) if (at := direct_at(node))]
    return Outcome(name, got, first_at - joined, max(direct) if got == "direct" else None)


def lose_relay(lab: Lab, probe: Probe) -> None:
    """Kill the relay at which dev listens, and wait until data flows again."""
    home = lab.dev.ask("status")["home_region"]["id"]
    next(relay for relay in lab.relays if relay.region_id == home).kill()
    probe.start_anew()
    until(lambda: probe.first_at, "an answer after the relay's end", timeout=PATIENCE)


def comes_in_time(condition: Callable[[], object], patience: float) -> bool:
    """Whether a condition comes true before patience ends."""
    try:
        until(condition, "it", timeout=patience)
    except LabError:
        return False
    return True


def online_at(node: Node) -> float:
    """When a node was last told that its one peer had come."""
    return max(entry.at for entry in journal(node) if entry.what == "peer online")


def direct_at(node: Node) -> float | None:
    """Since when a node uses the direct path; None if it does not."""
    since = None
    for entry in journal(node):
        if entry.what == "path changed":
            since = (since or entry.at) if entry.fields["kind"] == "direct" else None
    return since


def journal(node: Node) -> list[Entry]:
    """What happened since a node's daemon was started."""
    assert node.daemon is not None
    return entries(node.daemon.output)


def kinds(lab: Lab) -> set[str]:
    """How the two ends reach each other now, in their own words."""
    return {path_of(lab.user, "dev"), path_of(lab.dev, "user")}


def path_of(node: Node, name: str) -> str:
    """The kind of path to a peer; asked of the control socket itself, which is quick."""
    peers = node.ask("status")["peers"]
    return next((str(peer["path"]["kind"]) for peer in peers if peer["name"].endswith(f"/{name}")), "none")
