"""``scripts/lab matrix``: every topology, what the oracle foretells for it, and what coderd does; a table of both.

The named topologies are each built anew. The grid of NAT kinds is gone through in batches: one laboratory, whose
routers become other NATs from pair to pair, with coderd stopped and conntrack empty in between.

Each batch has a process of its own (`lab.workers`). What happened when is read from the daemons' logs and from a probe
in the tunnel, all on one clock; this program only waits until it has happened.
"""

import fnmatch
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from lab import TOPOLOGIES, Lab, LabError, Node, Topology, until
from lab.journal import Entry, entries
from lab.probe import Probe
from lab.workers import in_processes
from lab_report import ALL, REPORT, Outcome, report, row
from oracle import predict

BATCH = 8
"""Pairs of the grid that one laboratory goes through."""

PATIENCE = 20.0
"""Seconds within which a path foretold to be direct must be so."""
SETTLED = 4.0
"""Seconds after the first byte after which a path that was not direct by then counts as relayed."""


def run_matrix(*, jobs: int, only: str | None) -> bool:
    """Go through all, or those whose name matches a pattern; whether each came out as predicted."""
    wanted = [name for name in ALL if only is None or fnmatch.fnmatch(name, only)]
    outcomes: dict[str, Outcome] = {}
    with closing(in_processes(run_batch, batches(wanted), jobs=jobs)) as coming:
        for outcome in coming:
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


def run_batch(names: Sequence[str]) -> Iterator[Outcome]:
    """The outcomes of topologies that differ in the NATs of their routers alone."""
    rest = list(names)
    while rest:  # a laboratory that failed is left, and the next pair gets a new one
        try:
            with Lab(ALL[rest[0]]) as lab:
                address = lab.join_dev()
                with Probe(lab.user, lab.dev, address) as probe:
                    lab.join_user()
                    yield watch(lab, probe, rest.pop(0))
                while rest:
                    change(lab, ALL[rest[0]])
                    with Probe(lab.user, lab.dev, address) as probe:
                        lab.user.restart()
                        yield watch(lab, probe, rest.pop(0))
        except (LabError, OSError) as error:
            traceback.print_exc()
            yield Outcome(rest.pop(0), f"failed: {str(error).splitlines()[0]}")


def change(lab: Lab, topology: Topology) -> None:
    """Make the routers of a laboratory those of another topology. Of coderd dev alone is there then, starting afresh."""
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
