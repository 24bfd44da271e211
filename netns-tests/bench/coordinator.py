"""``scripts/bench coordinator``: what one server carries of nodes that only join, stay, change and come back.

The server is the real program on a database on disk, over loopback without TLS; the nodes are the real client
core over real WebSockets, all in one process on the other core (``coordinator_load``). Two kinds of team:

    teams   users with 1 to 3 devices and 1 to 4 workspaces, one workspace in five shared with somebody else
    ops     the same, and one user with whom every workspace is shared: this one's device sees them all

Below the table each load is held against the aims, and it says how busy both cores were: what fills its core
sets the pace.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from lab import LabError, until

from bench.relay import _listens, _process, cpu_seconds, free_port
from bench.report import add_form_options, load, publish, say
from bench.results import OURS, Results, markdown
from coderd.identity.io.store import Store
from coderd.identity.people import Node, User
from coderd.identity.policy import may_tunnel
from coderd.model.keys import NodePrivate
from coderd.server.state import DATABASE_FILE

SIZES = (1000, 2000, 5000)
MAX_DEVICES = 3
MAX_WORKSPACES = 4
SHARED_PART = 5
"""One workspace in so many is shared with another user."""
SEED = 5
IDLE_TIME = 8.0
"""Seconds for which the server is watched while nothing happens; two rounds of ``alive``."""
KIBI = 1024
MILLI = 1e3
FIGURES = (
    ("join-rate", "joins per second"),
    ("join-cpu", "server CPU per join, ms"),
    ("join-load-cpu", "CPU of the nodes per join, ms"),
    ("memory", "server memory per node, KiB"),
    ("idle", "server CPU when nothing happens, % of a core"),
    ("change-p50", "change to peer p50, ms"),
    ("change-p99", "change to peer p99, ms"),
    ("return", "all back after a restart, s"),
    ("return-converged", "and converged, s"),
    ("return-cpu", "server CPU of that, s"),
    ("load-cpu", "CPU of all the nodes for that, s"),
)


@dataclass(frozen=True)
class Aim:
    """What a figure should not exceed, with up to so many nodes."""

    figure: str
    says: str
    limit: float
    unit: str
    max_nodes: int


AIMS = (
    Aim("change-p99", "change to peer p99", 200.0, "ms", 5000),
    Aim("return-converged", "converged after a restart", 10.0, "s", 2000),
    Aim("memory", "memory per node", 60.0, "KiB", 5000),
)


@dataclass(frozen=True)
class Member:
    """A node and what it needs to join."""

    node: Node
    token: str
    key: NodePrivate


class Bench:
    """A server with its state directory, and the load of it.

    Args:
        directory: for state and log.
        fleet: the load's file.
    """

    def __init__(self, directory: Path, fleet: Path) -> None:
        self._directory = directory
        self._fleet = fleet
        self._port = free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._load: subprocess.Popen[str] | None = None

    @contextmanager
    def server(self) -> Iterator[subprocess.Popen[str]]:
        """A server that answers. LabError where it ends instead."""
        program = str(Path(sys.executable).parent / "coderd")
        command = [program, "server", "--access-url", self._url, "--http-address", f"127.0.0.1:{self._port}"]
        command += ["--stun-address", "off", "--state-dir", str(self._directory / "state")]
        log = self._directory / "server.log"
        with log.open("a") as file, _process(command, core=0, log=file) as serving:
            until(
                lambda: _listens(self._port) or serving.poll() is not None, "the server to listen", timeout=30
            )
            if serving.poll() is not None:
                raise LabError(f"the server ended: {log.read_text()[-500:]}")
            yield serving

    @contextmanager
    def load(self) -> Iterator[subprocess.Popen[str]]:
        """The nodes, none of them joined."""
        command = [sys.executable, "-m", "bench.coordinator_load", self._url, str(self._fleet)]
        with _process(command, core=1) as loading:
            self._load = loading
            assert loading.stdout is not None
            if loading.stdout.readline() != "ready\n":
                raise LabError("the load did not start")
            yield loading

    def order(self, **order: object) -> dict[str, float]:
        """Has the load do something. LabError where it died of it."""
        assert self._load is not None
        assert self._load.stdin is not None
        assert self._load.stdout is not None
        self._load.stdin.write(json.dumps(order) + "\n")
        self._load.stdin.flush()
        if not (line := self._load.stdout.readline()):
            raise LabError(f"the load ended while it was to {order['do']}")
        found: dict[str, float] = json.loads(line)
        return found


def measure(results: Results, n_nodes: int, *, has_ops: bool, n_changes: int) -> None:
    """All figures of one size."""
    case = f"{'ops' if has_ops else 'teams'}-{n_nodes}"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        fleet = prepare(directory, n_nodes, has_ops=has_ops)
        bench = Bench(directory, fleet)
        with bench.load() as nodes:
            with bench.server() as server:
                figures = measure_calm(bench, server, nodes, n_nodes, n_changes)
                bench.order(do="return")
                server.send_signal(signal.SIGTERM)
                server.wait(30)
            with bench.server() as server:
                figures |= measure_return(bench, server, nodes)
    for figure, says in FIGURES:
        results.add(f"{case}-{figure}", says, OURS, figures[figure])


def measure_calm(
    bench: Bench, server: subprocess.Popen[str], nodes: subprocess.Popen[str], n_nodes: int, n_changes: int
) -> dict[str, float]:
    """From the first join to a quiet server."""
    empty, before, nodes_before = memory(server.pid), cpu_seconds(server.pid), cpu_seconds(nodes.pid)
    joined = bench.order(do="join")
    spent, nodes_spent = cpu_seconds(server.pid) - before, cpu_seconds(nodes.pid) - nodes_before
    idle = idle_share(server.pid)
    delays = sorted(bench.order(do="change", count=n_changes)["delays"])  # type: ignore[call-overload]
    cuts = statistics.quantiles(delays, n=100)
    return {
        "join-rate": n_nodes / (joined["converged"] - joined["began"]),
        "join-cpu": spent / n_nodes * MILLI,
        "join-load-cpu": nodes_spent / n_nodes * MILLI,
        "memory": (memory(server.pid) - empty) / n_nodes / KIBI,
        "idle": idle * 100,
        "change-p50": cuts[49] * MILLI,
        "change-p99": cuts[98] * MILLI,
    }


def measure_return(
    bench: Bench, server: subprocess.Popen[str], nodes: subprocess.Popen[str]
) -> dict[str, float]:
    """From the moment the new server listens to the moment all nodes know of all their peers again."""
    listened, before, nodes_before = monotonic(), cpu_seconds(server.pid), cpu_seconds(nodes.pid)
    returned = bench.order(do="returned")
    return {
        "return": returned["all_in"] - listened,
        "return-converged": returned["converged"] - listened,
        "return-cpu": cpu_seconds(server.pid) - before,
        "load-cpu": cpu_seconds(nodes.pid) - nodes_before,
    }


def idle_share(pid: int) -> float:
    """The part of a core that a process uses while nothing is asked of it."""
    before, began = cpu_seconds(pid), monotonic()
    with subprocess.Popen(["sleep", str(IDLE_TIME)]) as pause:
        pause.wait()
    return (cpu_seconds(pid) - before) / (monotonic() - began)


def memory(pid: int) -> float:
    """Bytes that a process has in memory now."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return float(value.split()[0]) * KIBI
    raise LabError(f"the process {pid} has ended")


def prepare(directory: Path, n_nodes: int, *, has_ops: bool) -> Path:
    """Fills a state directory's database and writes the load's file.

    The database is made in memory, as every change of one on disk waits for the disk.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        state = Path(name) / "state"
        state.mkdir(mode=0o700)
        store = Store(state / DATABASE_FILE)
        try:
            members = make_members(store, n_nodes, has_ops=has_ops)
        finally:
            store.close()
        shutil.copytree(state, directory / "state")
    os.sync()
    fleet = directory / "fleet.json"
    fleet.write_text(json.dumps(describe(members)), encoding="utf-8")
    return fleet


def make_members(store: Store, n_nodes: int, *, has_ops: bool) -> list[Member]:
    """Users with their machines, and the shares between them."""
    rng = random.Random(SEED)
    users: list[User] = []
    members: list[Member] = []
    ops = store.users.create("ops").result.user if has_ops else None
    if ops is not None:
        members.append(add_device(store, ops))
    while len(members) < n_nodes:
        user = store.users.create(f"user-{len(users)}").result.user
        members += [add_device(store, user) for _ in range(rng.randint(1, MAX_DEVICES))]
        for index in range(rng.randint(1, MAX_WORKSPACES)):
            member = add_workspace(store, user, f"dev-{index}")
            if users and rng.randrange(SHARED_PART) == 0:
                member = share(store, member, rng.choice(users))
            members.append(member if ops is None else share(store, member, ops))
        users.append(user)
    return members[:n_nodes]


def add_device(store: Store, user: User) -> Member:
    """One more machine of somebody's."""
    key = NodePrivate.generate(os.urandom)
    issued = store.nodes.enrol_device(user, "laptop", key.public()).result
    return Member(issued.node, issued.token, key)


def add_workspace(store: Store, user: User, name: str) -> Member:
    """One more workspace of somebody's."""
    issued = store.nodes.create_workspace(user, name).result
    return Member(issued.node, issued.token, NodePrivate.generate(os.urandom))


def share(store: Store, member: Member, guest: User) -> Member:
    """A workspace that somebody else may use, too."""
    node = store.shares.offer(
        member.node.owner, member.node.node_id, guest.name, accepts=True, max_given=1_000_000
    ).result
    return Member(node, member.token, member.key)


def describe(members: list[Member]) -> list[dict[str, object]]:
    """The load's file: who joins, and whom each may meet."""
    by_user: dict[object, list[Node]] = {}
    for member in members:
        for user in {member.node.owner, *member.node.shared_with}:
            by_user.setdefault(user.user_id, []).append(member.node)
    people: list[dict[str, object]] = []
    for member in members:
        users = {member.node.owner, *member.node.shared_with}
        known = {other.node_id: other for user in users for other in by_user[user.user_id]}
        people.append(
            {
                "id": str(member.node.node_id),
                "token": member.token,
                "node_key": member.key.secret_text(),
                "partners": [str(id) for id, other in known.items() if may_tunnel(member.node, other)],
            }
        )
    return people


def table(results: Results) -> str:
    """A row per figure, a column per load."""
    loads = loads_of(results)
    rows = [["", *(f"{kind}, {size:,}" for kind, size in loads)]]
    for figure, says in FIGURES:
        rows.append([says, *(results[f"{kind}-{size}-{figure}"].cell(OURS) for kind, size in loads)])
    return markdown(rows)


def loads_of(results: Results) -> list[tuple[str, int]]:
    """Kinds of team and numbers of nodes, as measured."""
    parts = (result.case.split("-") for result in results)
    return list(dict.fromkeys((kind, int(size)) for kind, size, *_ in parts))


def verdicts(results: Results) -> list[str]:
    """A sentence for each load.

    Which aims it meets, and how busy both cores were while everybody joined and came back.
    """
    return [_verdict(results, kind, size) for kind, size in loads_of(results)]


def _verdict(results: Results, kind: str, size: int) -> str:
    def figure(name: str) -> float:
        return results[f"{kind}-{size}-{name}"].median(OURS)

    aims = "; ".join(
        f"{aim.says} of at most {aim.limit:.0f} {aim.unit} {'met' if figure(aim.figure) <= aim.limit else 'MISSED'}"
        for aim in AIMS
        if size <= aim.max_nodes
    )
    joining = [figure("join-rate") * figure(name) / MILLI for name in ("join-cpu", "join-load-cpu")]
    returning = [figure(name) / figure("return-converged") for name in ("return-cpu", "load-cpu")]
    busy = (f"{server:.0%} and {nodes:.0%}" for server, nodes in (joining, returning))
    return f"{kind}, {size:,}: {aims or 'no aims'}. Cores of server and nodes busy: {' of the joins, '.join(busy)} of the return."


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own part of the command line."""
    add_form_options(parser)
    parser.add_argument(
        "--nodes", type=int, action="append", help=f"how many; may repeat  [default: {SIZES}]"
    )
    parser.add_argument("--rounds", type=int, default=1, help="rounds of each size  [default: 1]")
    parser.add_argument("--changes", type=int, default=300, help="nodes that move  [default: 300]")
    parser.add_argument("--only", choices=("teams", "ops"), help="one kind of team  [default: both]")


def run(options: argparse.Namespace) -> None:
    """Everything, and out with it."""
    notes = [
        "One server process on one core, all nodes in one process on the other; no TLS; the database on disk.",
        "teams: users with 1–3 devices and 1–4 workspaces, one workspace in five shared. ops: besides, one device that may "
        "meet every workspace.",
        "joins: 64 at a time, until every node knows every peer. Memory: resident, joined and idle, less that of the "
        "empty server. Change to peer: new endpoints of one node after another, to each peer's NetMap.",
        "restart: SIGTERM, and a new process; seconds from its listening.",
    ]
    before = load()
    results = Results()
    for has_ops in (False, True):
        if options.only == ("teams" if has_ops else "ops"):
            continue
        for n_nodes in options.nodes or SIZES:
            for _ in range(options.rounds):
                say(f"{n_nodes} nodes{', one of whom sees all workspaces' if has_ops else ''}")
                measure(results, n_nodes, has_ops=has_ops, n_changes=options.changes)
    publish(options, "coordinator", results, table(results), [*notes, *verdicts(results), before])
