"""``scripts/bench throughput``: tunnels against each other.

Per MTU one laboratory with all contenders up; per round each case goes through them one after the other.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from lab import Lab, Node
from lab.topology import Family

from bench import instruments
from bench.contenders import OUTER, Place, Tunnel, nodes, plain
from bench.instruments import iperf, round_trip
from bench.laboratory import laboratory
from bench.report import add_form_options, load, publish, say
from bench.results import OURS, Results, comparison

PEER = "wireguard-go"
FULL_SPEED_SECONDS = 10
"""Of the transfer after which memory is looked at."""
STREAMS = {"1": (), "many": ("-P", "4")}
WAYS = {"down": ("-R",), "up": (), "both": ("--bidir",)}
QUICK: dict[str, list[tuple[int, Family]]] = {"wireguard": [(1420, 4), (1280, 6)], "node": [(1280, 6)]}
"""Without --full: IPv4 at 1420 as WireGuards are mostly compared, IPv6 at 1280 as the product has it."""
FULL: dict[str, list[tuple[int, Family]]] = {
    "wireguard": [(1420, 4), (1420, 6), (1280, 4), (1280, 6)],
    "node": [(1420, 6), (1280, 6)],
}

Contender = Callable[[Lab, int], AbstractContextManager[Tunnel]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own part of the command line."""
    parser.add_argument(
        "--ours",
        choices=list(QUICK),
        default="wireguard",
        help="what stands for us: `coderd wireguard`, or whole daemons, which have IPv6 alone inside",
    )
    parser.add_argument(
        "--peer", action="append", default=[], metavar="PATH", help="one more program like wireguard-go"
    )
    parser.add_argument("--full", action="store_true", help="every MTU with every address family")
    parser.add_argument(
        "--case", action="append", metavar="GLOB", help="only cases that are called like this"
    )
    parser.add_argument("--rounds", type=int, default=2, help="how often each contender has its turn (2)")
    parser.add_argument("--seconds", type=int, default=1, help="of each transfer, without its first (1)")
    parser.add_argument("--pin", action="store_true", help="a core of its own for each daemon")
    add_form_options(parser)


@dataclass
class Run:
    """One run's wishes and findings."""

    options: argparse.Namespace
    results: Results = field(default_factory=Results)
    batches: dict[str, list[int]] = field(default_factory=dict)
    """Segments and system calls of ours by kind of call, where ours tells them."""

    def wants(self, case: str) -> bool:
        """Whether a case is asked for."""
        globs = self.options.case
        return not globs or any(fnmatch(case, glob) for glob in globs)

    def add(self, case: str, unit: str, name: str, value: float) -> None:
        """Notes a figure, and tells whoever waits."""
        self.results.add(case, unit, name, value)
        say(f"  {case}, {name}: {value:.2f} {unit}")


def run(options: argparse.Namespace) -> None:
    """Everything, and out with it."""
    this, busy = Run(options), load()
    matrix = (FULL if options.full else QUICK)[options.ours]
    mtus = list(dict.fromkeys(mtu for mtu, _ in matrix))
    bare: list[float] = []
    for mtu in mtus:
        families = [family for each, family in matrix if each == mtu]
        with laboratory() as lab, ExitStack() as stack:
            if mtu == mtus[0] and this.wants("bare"):
                bare.append(iperf(lab, OUTER["dev"], WAYS["down"], options.seconds))
            tunnels = [stack.enter_context(contender(lab, mtu)) for contender in contenders(options)]
            if options.pin:
                for tunnel in tunnels:
                    instruments.pin(tunnel.daemons)
            if mtu == mtus[0]:
                memory(this, lab, tunnels)
            for number in range(options.rounds):
                say(f"MTU {mtu}, round {number + 1} of {options.rounds}")
                for family in families:
                    order = tunnels[:: -1 if number % 2 else 1]
                    tcp(this, lab, order, mtu, family)
                    if family == families[0]:
                        small(this, lab, order, mtu, family)
    finish(this, busy, bare)


def contenders(options: argparse.Namespace) -> Iterator[Contender]:
    """Ours first, then Debian's wireguard-go, then others."""
    if options.ours == "node":
        yield lambda lab, mtu: nodes(lab, OURS, mtu)
    else:
        yield partial(_plain, OURS, ["coderd", "wireguard"], 0)
    names = {OURS, PEER}
    yield partial(_plain, PEER, [PEER], 1)
    for number, path in enumerate(options.peer, start=2):
        name = Path(path).name
        name = name if name not in names else f"{name} {number}"
        names.add(name)
        yield partial(_plain, name, [str(Path(path).resolve())], number)


def _plain(
    name: str, command: Sequence[str], number: int, lab: Lab, mtu: int
) -> AbstractContextManager[Tunnel]:
    return plain(lab, name, command, Place(number), mtu)


def memory(this: Run, lab: Lab, tunnels: Sequence[Tunnel]) -> None:
    """What daemons that have done nothing else occupy after a transfer."""
    if not this.wants("memory"):
        return
    say(f"Memory, after {FULL_SPEED_SECONDS} s at full speed")
    for tunnel in tunnels:
        family = min(tunnel.addresses)
        iperf(lab, tunnel.addresses[family], WAYS["down"], FULL_SPEED_SECONDS)
        now, highest = instruments.memory_megabytes(tunnel.daemons)
        this.add("memory", "MB", tunnel.name, now)
        this.add("memory-highest", "MB", tunnel.name, highest)


def tcp(this: Run, lab: Lab, tunnels: Sequence[Tunnel], mtu: int, family: Family) -> None:
    """One stream and four, towards the user, away, and both ways at once."""
    for streams, parallel in STREAMS.items():
        for way, direction in WAYS.items():
            where = f"mtu{mtu}{suffix(family)}"
            case, cpu_case = f"tcp-{streams}-{way}-{where}", f"cpu-{streams}-{way}-{where}"
            if not (this.wants(case) or this.wants(cpu_case)):
                continue
            for tunnel in tunnels:
                options = (*direction, *parallel)
                before = _spent(lab, tunnel)
                with _batches(this, lab, tunnel, is_one_way=way != "both"):
                    speed = iperf(lab, tunnel.addresses[family], options, this.options.seconds)
                seconds, gigabytes = (b - a for a, b in zip(before, _spent(lab, tunnel), strict=True))
                this.add(case, "Gbit/s", tunnel.name, speed)
                if (streams, way) == ("1", "down"):
                    this.add(cpu_case, "CPU s/GB", tunnel.name, seconds / gigabytes)


def _spent(lab: Lab, tunnel: Tunnel) -> tuple[float, float]:
    return instruments.cpu_seconds(tunnel.daemons), instruments.received_gigabytes(lab, tunnel)


def small(this: Run, lab: Lab, tunnels: Sequence[Tunnel], mtu: int, family: Family) -> None:
    """Small datagrams, and the round trip that a tunnel adds.

    MTU matters to neither, so each family has its turn once.
    """
    packets, trip = f"udp-small{suffix(family)}", f"rtt{suffix(family)}"
    if this.wants(packets):
        for tunnel in tunnels:
            rate = instruments.small_packets(lab, tunnel, family, this.options.seconds)
            this.add(packets, "packets/s", tunnel.name, rate)
    if this.wants(trip):
        bare = round_trip(lab, OUTER["dev"])
        for tunnel in tunnels:
            this.add(trip, "ms added", tunnel.name, round_trip(lab, tunnel.addresses[family]) - bare)


def suffix(family: Family) -> str:
    """What a case's name says of the addresses inside."""
    return "-v6" if family == 6 else ""


@contextmanager
def _batches(this: Run, lab: Lab, tunnel: Tunnel, *, is_one_way: bool) -> Iterator[None]:
    """Adds up how many segments one system call of ours moved, from the end that does most of it.

    The numbers show whether offloads work.
    """
    if tunnel.name != OURS or this.options.ours != "node" or not is_one_way:
        yield
        return
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
        total = this.batches.setdefault(name, [0, 0])
        total[:] = [sum(pair) for pair in zip(total, max(moved), strict=True)]


def _counters(node: Node) -> dict[str, int]:
    counters = (node.status() or {}).get("counters", {})
    assert isinstance(counters, dict)
    return counters


def finish(this: Run, busy: str, bare: Sequence[float]) -> None:
    """The table, and what else is worth knowing."""
    options = this.options
    means = [f"{name} {n / calls:.1f}" for name, (n, calls) in this.batches.items() if calls]
    notes = [
        f"Rounds: {options.rounds}; transfers: {options.seconds} s; "
        f"{'each daemon pinned to a core of its own' if options.pin else 'nothing pinned'}.",
        busy,
        *(f"Without a tunnel: {speed:.1f} Gbit/s." for speed in bare),
        *([f"Segments per system call of ours: {', '.join(means)}."] if means else []),
    ]
    section = f"throughput{'-node' if options.ours == 'node' else ''}{'-pinned' if options.pin else ''}"
    results = list(this.results)
    publish(options, section, results, comparison(results) if results else "No such case.", notes)
