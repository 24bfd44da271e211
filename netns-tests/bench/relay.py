"""``scripts/bench relay``: what one relay process carries, raw and as the way of whole nodes.

Whole nodes: see ``relay_nodes``. Raw: clients that only speak DERP, over loopback; the relay on one core, the
load on another. Of every load three things are asked: what is delivered when everybody sends as fast as the
relay takes it, the highest rate at which no more than one frame in a thousand is lost, and how long frames
wait at half of that rate.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import LabError, until

from bench import relay_nodes
from bench.derp_load import BURST, FRAME_SIZE, PACKET_SIZE
from bench.report import add_form_options, load, publish, say
from bench.results import OURS, Result, Results, comparison, markdown

RAW_PAIRS = (1, 100)
NODE_PAIRS = (1, 4)
TRANSFER = 4
"""Seconds of a TCP transfer between whole nodes."""
TOLERATED = 0.001
"""Part of the frames that may be lost at a rate that counts as carried."""
STEPS = 7
"""Halvings of the range in which the highest such rate is looked for."""
WARM_UP = 0.5
MICRO = 1e6
MILLI = 1e3
CLOCK_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """One run of the load. Times in seconds."""

    offered: float
    delivered: float
    loss: float
    cpu: float
    delay_p50: float
    delay_p99: float


class Bench:
    """A relay and a load of it.

    Args:
        relay: the relay's process.
        load: the load's, connected.
    """

    def __init__(self, relay: subprocess.Popen[str], load: subprocess.Popen[str]) -> None:
        self._relay = relay
        self._load = load

    def run(self, rate: float | None, seconds: float) -> Sample:
        """Offers frames at a rate, or as many as the relay takes. LabError where either process died."""
        before = cpu_seconds(self._relay.pid)
        assert self._load.stdin is not None
        assert self._load.stdout is not None
        self._load.stdin.write(json.dumps({"rate": rate, "seconds": seconds}) + "\n")
        self._load.stdin.flush()
        if not (line := self._load.stdout.readline()):
            raise LabError("the relay's load ended in the middle of a run")
        found = json.loads(line)
        return Sample(
            offered=found["sent"] / found["seconds"],
            delivered=found["received"] / found["seconds"],
            loss=1 - found["received"] / max(found["sent"], 1),
            cpu=(cpu_seconds(self._relay.pid) - before) / max(found["received"], 1),
            delay_p50=found["delay_p50"],
            delay_p99=found["delay_p99"],
        )

    def highest_rate(self, top: float, seconds: float) -> float:
        """The highest rate, of those tried, that was really offered and arrived but for TOLERATED of it."""
        low, high = 0.0, top
        for _ in range(STEPS):
            rate = (low + high) / 2
            sample = self.run(rate, seconds)
            if sample.loss <= TOLERATED and sample.offered >= 0.98 * rate:
                low = rate
            else:
                high = rate
        return low


@contextmanager
def bench(n_pairs: int, *, is_tls: bool, directory: Path) -> Iterator[Bench]:
    """A relay for any client and so many pairs of clients, each program on a core of its own."""
    port = free_port()
    scheme = "https" if is_tls else "http"
    url = f"{scheme}://127.0.0.1:{port}"
    program = str(Path(sys.executable).parent / "coderd")
    where = "--tls-address" if is_tls else "--http-address"
    relay = [program, "derp", "--access-url", url, where, f"127.0.0.1:{port}"]
    relay += ["--stun-address", "off", "--allow-any-client"]
    relay += ["--state-dir", str(directory / f"{scheme}-{n_pairs}")]
    command = [sys.executable, "-m", "bench.derp_load", "127.0.0.1", str(port), str(n_pairs), scheme]
    with (directory / "relay.log").open("w") as log, _process(relay, core=0, log=log) as serving:
        until(lambda: _listens(port) or serving.poll() is not None, "the relay to listen", timeout=20)
        if serving.poll() is not None:
            raise LabError(f"the relay ended: {(directory / 'relay.log').read_text()[-500:]}")
        with _process(command, core=1) as loading:
            assert loading.stdout is not None
            if loading.stdout.readline() != "ready\n":
                raise LabError("the load could not connect to the relay")
            yield Bench(serving, loading)


@contextmanager
def _process(command: list[str], *, core: int, log: object = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        ["taskset", "-c", str(core % (os.cpu_count() or 1)), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if log is None else log,  # type: ignore[call-overload]
        stderr=None if log is None else subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICK


def free_port() -> int:
    """A TCP port of loopback that nobody has just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def measure_raw(results: Results, n_pairs: int, *, is_tls: bool, rounds: int, seconds: float) -> None:
    """All figures of one load."""
    case = f"raw-{n_pairs}{'-tls' if is_tls else ''}"
    with tempfile.TemporaryDirectory() as name, bench(n_pairs, is_tls=is_tls, directory=Path(name)) as relay:
        relay.run(None, WARM_UP)
        for _ in range(rounds):
            full = relay.run(None, seconds)
            carried = relay.highest_rate(full.offered * 1.1, seconds)
            calm = relay.run(carried / 2, seconds)
            for figure, unit, value in (
                ("carried", "frames/s", carried),
                ("offered", "frames/s", full.offered),
                ("delivered", "frames/s", full.delivered),
                ("cpu", "us/frame", full.cpu * MICRO),
                ("wait-p50", "ms", calm.delay_p50 * MILLI),
                ("wait-p99", "ms", calm.delay_p99 * MILLI),
                ("full-wait-p99", "ms", full.delay_p99 * MILLI),
            ):
                results.add(f"{case}-{figure}", unit, OURS, value)


def raw_table(results: Results) -> str:
    """A row per load, a column per figure."""
    figures = ("carried", "offered", "delivered", "cpu", "wait-p50", "wait-p99", "full-wait-p99")
    rows = [
        [
            "load",
            "carried, frames/s",
            "offered",
            "delivered",
            "CPU us/frame",
            "wait ms p50",
            "p99",
            "p99 at full",
        ]
    ]
    cells: dict[str, list[Result]] = {}
    for result in results:
        name = next(
            figure for figure in sorted(figures, key=len, reverse=True) if result.case.endswith(figure)
        )
        cells.setdefault(result.case.removesuffix(f"-{name}"), []).append(result)
    rows += [[case, *(result.cell(OURS) for result in found)] for case, found in cells.items()]
    return markdown(rows)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own part of the command line."""
    add_form_options(parser)
    parser.add_argument("--rounds", type=int, default=1, help="rounds of each load  [default: 1]")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run of a load  [default: 1.5]")
    parser.add_argument("--plain", action="store_true", help="leave TLS out")
    parser.add_argument("--only", choices=("raw", "nodes"), help="one half  [default: both]")


def run(options: argparse.Namespace) -> None:
    """Everything, and out with it."""
    notes = [
        f"Frames of {PACKET_SIZE} bytes ({FRAME_SIZE} with their header) in bursts of up to {BURST}; a pair is two clients.",
        "carried: the highest rate offered of which no more than 0.1 % is lost. offered and delivered: every client sends as fast "
        "as the relay takes it. wait: from the sender's write to the receiver's read, at half of the carried rate.",
        "nodes: one TCP stream per pair inside tunnels that the server relays, all pairs added up; plain TCP: without tunnel "
        "or relay; haproxy: plain TCP through a proxy on the relay's host, one thread.",
        load(),
    ]
    ways = (False,) if options.plain else (False, True)
    raw, nodes = Results(), Results()
    for is_tls in ways if options.only != "nodes" else ():
        for n_pairs in RAW_PAIRS:
            say(f"raw, {n_pairs} pairs, {'TLS' if is_tls else 'plain'}")
            measure_raw(raw, n_pairs, is_tls=is_tls, rounds=options.rounds, seconds=options.seconds)
    for is_tls in ways if options.only != "raw" else ():
        for n_pairs in NODE_PAIRS:
            say(f"whole nodes, {n_pairs} pairs, {'TLS' if is_tls else 'plain'}")
            relay_nodes.measure(nodes, n_pairs, is_tls=is_tls, rounds=options.rounds, seconds=TRANSFER)
    tables = [raw_table(raw)] if list(raw) else []
    tables += [comparison(list(nodes))] if list(nodes) else []
    publish(options, "relay", [*raw, *nodes], "\n\n".join(tables), notes)
