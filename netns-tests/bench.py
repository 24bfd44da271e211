"""``scripts/bench``: our data path against a real peer's, in one run, on one pair of hosts; ratios, not boasts.

::

    user 198.51.100.2 ── core ── 203.0.113.2 dev        veth, no NAT, nothing shaped
      coder-user  ═════ ours ═════  coder-dev           the daemons as people run them
      wg0         ══ wireguard-go ══ wg0                the same addresses family, MTU and iperf3

Rounds alternate between ours and the peer, so that whatever else the machine does meets both. Both daemons and both ends
of iperf3 share the machine's cores.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from lab import Host, Lab, LabError, Node, Process, until

OURS = "ours"
PEER_NAME = "wireguard-go"
PEER_PORT = 51820
GIGA = 1e9
INNER = {"user": "fd00:be7c::1", "dev": "fd00:be7c::2"}
WORKSPACE = "dev"
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- throughput: begin -->\n", "<!-- throughput: end -->"


@dataclass(frozen=True)
class Case:
    """One thing that is measured: a name, iperf3's options, the tunnel's MTU."""

    name: str
    mtu: int
    options: tuple[str, ...] = ()

    @property
    def is_one_way(self) -> bool:
        """Whether data goes one way, so that batches have a direction."""
        return "--bidir" not in self.options


class Tunnel(NamedTuple):
    """A contender at work: dev's address inside, and the two daemons."""

    address: str
    daemons: tuple[Process, Process]


@dataclass
class Result:
    """What a case measured: a list of Gbit/s (or milliseconds) for each contender."""

    case: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The documented form: medians, with minimum and maximum beside."""
        ours = statistics.median(self.values[OURS])
        peers = {name: statistics.median(found) for name, found in self.values.items() if name != OURS}
        return {
            "case": self.case,
            "unit": self.unit,
            OURS: round(ours, 3),
            "peers": {name: round(value, 3) for name, value in peers.items()},
            "ratio": {name: round(ours / value, 3) for name, value in peers.items()},
            "range": {name: [round(min(v), 3), round(max(v), 3)] for name, v in self.values.items()},
        }


@dataclass
class Batches:
    """How many segments one system call moved in the data's direction: the means say whether offloads work."""

    sums: dict[str, list[int]] = field(default_factory=dict)

    @contextmanager
    def watch(self, lab: Lab) -> Iterator[None]:
        """Adds what both ends count meanwhile, from the end that does most of it."""
        before = [_counters(node) for node in (lab.user, lab.dev)]
        yield
        after = [_counters(node) for node in (lab.user, lab.dev)]
        for name, calls, segments in (
            ("TUN read", "tun.reads", "tun.read_segments"),
            ("UDP send", "udp.sendmsg", "udp.sent_datagrams"),
            ("UDP read", "udp.recvmsg", "udp.received_datagrams"),
            ("TUN write", "tun.writes", "tun.write_segments"),
        ):
            moved = [
                (new.get(segments, 0) - old.get(segments, 0), new.get(calls, 0) - old.get(calls, 0))
                for old, new in zip(before, after, strict=True)
            ]
            total = self.sums.setdefault(name, [0, 0])
            total[:] = [sum(pair) for pair in zip(total, max(moved), strict=True)]

    def __str__(self) -> str:
        means = [f"{name} {n / calls:.1f}" for name, (n, calls) in self.sums.items() if calls]
        return ", ".join(means)


def cases(mtus: Sequence[int]) -> Iterator[Case]:
    """One stream and four, towards the user and away, both directions at once."""
    for mtu in mtus:
        yield Case(f"tcp-1-down-mtu{mtu}-v6", mtu, ("-R",))
        yield Case(f"tcp-1-up-mtu{mtu}-v6", mtu)
        yield Case(f"tcp-many-down-mtu{mtu}-v6", mtu, ("-R", "-P", "4"))
        yield Case(f"tcp-1-both-mtu{mtu}-v6", mtu, ("--bidir",))


@contextmanager
def ours(lab: Lab, mtu: int) -> Iterator[Tunnel]:
    """Our two daemons, joined and direct."""
    token = lab.server.create_workspace(WORKSPACE)
    lab.dev.join_as_workspace(lab.server.url, token, "--mtu", str(mtu))
    lab.user.join_as_user(lab.server.url, lab.server.admin_token, "--mtu", str(mtu))
    try:
        lab.user.wait_for_peer(WORKSPACE)
        lab.user.wait_for_path(WORKSPACE, "direct")
        peer = lab.user.peer(WORKSPACE)
        assert peer is not None
        assert lab.user.daemon is not None
        assert lab.dev.daemon is not None
        yield Tunnel(str(peer["address"]), (lab.user.daemon, lab.dev.daemon))
    finally:
        for node in (lab.user, lab.dev):
            if node.daemon is not None:
                node.daemon.stop()


@contextmanager
def theirs(lab: Lab, program: str, mtu: int) -> Iterator[Tunnel]:
    """Two wireguard-go (or anything called like it) with a static configuration."""
    hosts = {"user": lab.user.host, "dev": lab.dev.host}
    keys = {name: host.run(["wg", "genkey"]).stdout.strip() for name, host in hosts.items()}
    public = {name: hosts[name].run(["wg", "pubkey"], input=key).stdout.strip() for name, key in keys.items()}
    outer = {"user": "198.51.100.2", "dev": "203.0.113.2"}
    daemons: list[Process] = []
    try:
        for name, host in hosts.items():
            other = "dev" if name == "user" else "user"
            daemons.append(host.start([program, "wg0"], env={"WG_PROCESS_FOREGROUND": "1"}, name=program))
            until(partial(_has_socket, host), f"{program} to answer", timeout=10)
            host.run(
                ["wg", "setconf", "wg0", "/dev/stdin"],
                input=f"[Interface]\nPrivateKey={keys[name]}\nListenPort={PEER_PORT}\n"
                f"[Peer]\nPublicKey={public[other]}\nEndpoint={outer[other]}:{PEER_PORT}\n"
                f"AllowedIPs={INNER[other]}/128\n",
            )
            host.ip(
                "link set wg0 addrgenmode none",
                f"link set wg0 mtu {mtu}",
                "link set wg0 up",
                f"address add {INNER[name]}/64 dev wg0 nodad",
            )
        yield Tunnel(INNER["dev"], (daemons[0], daemons[1]))
    finally:
        for daemon in daemons:
            daemon.stop()


def _has_socket(host: Host) -> bool:
    return host.path("/run/wireguard/wg0.sock").exists()


def iperf(lab: Lab, address: str, options: Sequence[str], seconds: float) -> float:
    """One iperf3 run from the user to an address on dev; Gbit/s received, both directions added up."""
    server = lab.dev.host.start(["iperf3", "--server", "--one-off", "--forceflush"], name="iperf3 -s")
    try:
        server.wait_for("Server listening")
        argv = ["iperf3", "--client", address, "--time", f"{seconds:g}", "--omit", "1", "--json", *options]
        end = json.loads(lab.user.run(argv, timeout=seconds + 30))["end"]
        received = end["sum_received"]["bits_per_second"]
        return float(received + end.get("sum_received_bidir_reverse", {}).get("bits_per_second", 0.0)) / GIGA
    finally:
        server.stop()


def _counters(node: Node) -> dict[str, int]:
    status = node.status()
    counters = status.get("counters", {}) if status is not None else {}
    assert isinstance(counters, dict)
    return counters


def pin(daemons: Sequence[Process]) -> None:
    """Gives each daemon a core of its own, with all its threads."""
    for core, daemon in enumerate(daemons):
        for task in Path(f"/proc/{daemon.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core % (os.cpu_count() or 1)})


def round_trip(lab: Lab, address: str) -> float:
    """The median round trip of 100 echoes, in milliseconds."""
    out = lab.user.run(
        ["ping", "-6" if ":" in address else "-4", "-c", "100", "-i", "0.01", address], timeout=30
    )
    times = [float(line.partition("time=")[2].split()[0]) for line in out.splitlines() if "time=" in line]
    return statistics.median(times)


class Figures:
    """All that one run measures."""

    def __init__(self, mtus: Sequence[int]) -> None:
        self.results = {case.name: Result(case.name, "Gbit/s") for case in cases(mtus)}
        self.results |= {f"rtt-mtu{mtu}-v6": Result(f"rtt-mtu{mtu}-v6", "ms") for mtu in mtus}
        self.batches = {mtu: Batches() for mtu in mtus}

    def measure(self, lab: Lab, tunnel: Tunnel, name: str, mtu: int, seconds: float) -> None:
        """All cases of an MTU through one contender's tunnel."""
        for case in cases([mtu]):
            is_counted = name == OURS and case.is_one_way
            with self.batches[mtu].watch(lab) if is_counted else nullcontext():
                self._add(case.name, name, iperf(lab, tunnel.address, case.options, seconds))
        self._add(f"rtt-mtu{mtu}-v6", name, round_trip(lab, tunnel.address))

    def _add(self, case: str, name: str, value: float) -> None:
        self.results[case].values.setdefault(name, []).append(value)
        say(f"  {case}: {value:.2f} {self.results[case].unit}")


def throughput(options: argparse.Namespace) -> tuple[list[Result], list[str]]:
    """All cases, rounds alternating between the contenders; and what else is worth knowing, in sentences."""
    figures = Figures(options.mtu)
    load = os.getloadavg()[0]
    with Lab("no-nat") as lab:
        bare = iperf(lab, "203.0.113.2", ("-R",), options.seconds)
        bare_trip = round_trip(lab, "203.0.113.2")
    for mtu, number in product(options.mtu, range(options.rounds)):
        with Lab("no-nat") as lab:
            lab.server.start()
            for program in (None, *options.peer):
                name = OURS if program is None else Path(program).name
                say(f"MTU {mtu}, round {number + 1} of {options.rounds}: {name}")
                with ours(lab, mtu) if program is None else theirs(lab, program, mtu) as tunnel:
                    if options.pin:
                        pin(tunnel.daemons)
                    figures.measure(lab, tunnel, name, mtu, options.seconds)
    notes = [
        f"{options.rounds} rounds of {options.seconds:g} s; "
        f"{'each daemon pinned to a core of its own' if options.pin else 'nothing pinned'}.",
        f"Load average before the start: {load:.1f} on {os.cpu_count()} cores.",
        f"Without a tunnel: {bare:.1f} Gbit/s, round trip {bare_trip:.2f} ms.",
        *(f"MTU {mtu}, segments per system call of ours: {figures.batches[mtu]}." for mtu in options.mtu),
    ]
    return list(figures.results.values()), notes


def say(text: str) -> None:
    """Tells whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def machine() -> str:
    """The machine in a few words."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def table(results: Sequence[Result]) -> str:
    """The results for people: a Markdown table."""
    peers = [name for name in results[0].values if name != OURS]
    head = ["case", "unit", OURS, *peers, *(f"ours / {name}" for name in peers)]
    rows = [head, ["---"] * len(head)]
    for result in results:
        found = result.as_json()
        cells = {
            name: f"{statistics.median(v):.2f} ({min(v):.2f}–{max(v):.2f})"
            for name, v in result.values.items()
        }
        ratio = found["ratio"]
        assert isinstance(ratio, dict)
        rows.append(
            [
                result.case,
                result.unit,
                cells[OURS],
                *(cells[p] for p in peers),
                *(f"{ratio[p]:.2f}" for p in peers),
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    """Parses the command line and runs; 0, or 125 when the laboratory fails."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["throughput"])
    parser.add_argument(
        "--peer", action="append", default=None, metavar="PATH", help="another wireguard-go to compare with"
    )
    parser.add_argument(
        "--mtu", action="append", type=int, default=None, help="tunnel MTU; repeatable (1280 and 1420)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each iperf3 run")
    parser.add_argument("--pin", action="store_true", help="a core of its own for each daemon")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON to stdout instead of the table")
    form.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md as well")
    options = parser.parse_args()
    options.peer = options.peer or [PEER_NAME]
    options.mtu = options.mtu or [1280, 1420]
    try:
        results, notes = throughput(options)
    except LabError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 125
    today = time.strftime("%Y-%m-%d")
    if options.json:
        report = {"machine": machine(), "date": today, "cases": [result.as_json() for result in results]}
        print(json.dumps(report, indent=2))
        return 0
    text = f"{today}, {machine()}.\n\n{table(results)}\n\n" + "".join(f"- {note}\n" for note in notes)
    print(text)
    if options.write:
        document = DOCUMENT.read_text()
        before, after = document.partition(BEGIN)[0], document.partition(END)[2]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
