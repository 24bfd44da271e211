"""``coderctl speedtest``.

The daemon pins the path, this process transfers the bytes, the daemon's counters name the path.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from coderd.cli.options import SOCKET, Json, Socket, Workspace
from coderd.cli.say import note, say, say_json, wipe_notes
from coderd.cli.status import ask_status
from coderd.cli.values import parse_duration
from coderd.control.io.client import Call, ControlClient
from coderd.control.messages import (
    SPEEDTEST,
    Done,
    PathBytes,
    Ready,
    SpeedtestEvent,
    SpeedtestParams,
    Waiting,
)
from coderd.model.errors import Exit, UserError
from coderd.model.paths import PathKind, Pin
from coderd.speedtest.io.client import SpeedtestRun, run_test
from coderd.speedtest.paths import PathLabel, PathSamples, label
from coderd.speedtest.plan import MAX_DURATION, MIN_DURATION, Direction
from coderd.speedtest.report import CarryingPath, cells, latency_line, report, start_line, table
from coderd.speedtest.tally import Interval, overall

PATIENCE = 45.0
"""Seconds to wait for the daemon's next message: more than it waits for a direct path."""
SAMPLE_TIMEOUT = 1.5
"""Seconds to wait for a sample of the counters; the daemon sends several per second."""


def speedtest(
    workspace: Workspace,
    time: Annotated[
        str, typer.Option("-t", "--time", metavar="DURATION", help="How long the test lasts.")
    ] = "5s",
    direction: Annotated[
        str,
        typer.Option("--direction", metavar="down|up", help="down: the workspace sends; up: it receives."),
    ] = "down",
    direct: Annotated[
        bool, typer.Option("-d", "--direct", help="Wait for a direct path, and fail if there is none.")
    ] = False,
    relay: Annotated[bool, typer.Option("--relay", help="Use the relay only.")] = False,
    socket: Socket = SOCKET,
    json: Json = False,
) -> int:
    """Measure the TCP throughput between this machine and a workspace, and show which path carried it.

    Examples:
      coderctl speedtest dev
      coderctl speedtest dev -t 10s --direction up --direct
      coderctl speedtest dev --json | jq .overall.throughput_mbits

    Exits with 10 if --direct is given and only a relayed path works, with 11 if none does.
    """
    plan = _Plan(workspace, _duration(time), _direction(direction), _wish(direct, relay))
    with ControlClient(socket) as client:
        call = client.start(SPEEDTEST, SpeedtestParams(peer=workspace, path=plan.path), patience=PATIENCE)
        ready = _wait_ready(call)
        if not json:
            say(latency_line(ready.path, ready.via, ready.latency_ms))
            say(start_line(plan.duration, plan.direction))
        with _sampling(client, call, plan.direction) as samples:
            run = _run(plan, ready)
            samples.wait_beyond(run.started_at + overall(run.rows).end)
    return _report(plan, ready, run, samples.log, socket, json)


class _Plan:
    """What the command line asks for."""

    def __init__(self, workspace: str, duration: float, direction: Direction, path: Pin) -> None:
        self.workspace = workspace
        self.duration = duration
        self.direction = direction
        self.path = path


def _duration(text: str) -> float:
    seconds = parse_duration(text)
    if not MIN_DURATION <= seconds <= MAX_DURATION:
        raise UserError(
            f"a test lasts between {MIN_DURATION:g} and {MAX_DURATION:g} seconds, not {text}",
            exit_code=Exit.USAGE,
        )
    return seconds


def _direction(text: str) -> Direction:
    if text not in ("down", "up"):
        raise UserError(f"the direction is down or up, not {text!r}", exit_code=Exit.USAGE)
    return Direction.DOWN if text == "down" else Direction.UP


def _wish(direct: bool, relay: bool) -> Pin:
    if direct and relay:
        raise UserError("--direct and --relay exclude each other", exit_code=Exit.USAGE)
    return Pin.DIRECT if direct else Pin.RELAY if relay else Pin.ANY


def _wait_ready(call: "Call[SpeedtestEvent, Done]") -> Ready:
    for event in call:
        if isinstance(event, Ready):
            return event
        if isinstance(event, Waiting):
            now = latency_line(event.path, event.via, event.latency_ms or 0.0)
            note(f"Waiting for a direct connection... ({now})")
    raise UserError("the daemon ended the test before it began")


class _Samples:
    """The daemon's counters per path, read by a thread beside the test."""

    def __init__(self, call: "Call[SpeedtestEvent, Done]", direction: Direction) -> None:
        self.log = PathSamples()
        self._call = call
        self._direction = direction
        self._came = threading.Condition()

    def read(self) -> None:
        """Reads samples until the connection ends."""
        try:
            for event in self._call:
                if isinstance(event, PathBytes):
                    self._add(event)
        except UserError:
            return  # closed by us, or the daemon has gone, which the test itself will notice

    def _add(self, event: PathBytes) -> None:
        down = self._direction is Direction.DOWN
        with self._came:
            self.log.add(
                time.monotonic(),
                event.rx_direct_bytes if down else event.tx_direct_bytes,
                event.rx_relay_bytes if down else event.tx_relay_bytes,
            )
            self._came.notify_all()

    def wait_beyond(self, when: float) -> None:
        """Waits at most ``SAMPLE_TIMEOUT`` seconds for a sample taken after an instant."""
        with self._came:
            self._came.wait_for(lambda: (self.log.last_at or 0.0) >= when, timeout=SAMPLE_TIMEOUT)


@contextmanager
def _sampling(
    client: ControlClient, call: "Call[SpeedtestEvent, Done]", direction: Direction
) -> Iterator[_Samples]:
    """Takes samples from before the block to its end."""
    samples = _Samples(call, direction)
    thread = threading.Thread(target=samples.read, daemon=True)
    thread.start()
    try:
        samples.wait_beyond(0.0)
        yield samples
    finally:
        client.shutdown()
        thread.join(timeout=1.0)


def _run(plan: _Plan, ready: Ready) -> SpeedtestRun:
    with _live_rows() as on_row:
        return run_test(
            ready.address,
            ready.port,
            duration=plan.duration,
            direction=plan.direction,
            path=plan.path,
            secret=ready.secret,
            on_row=on_row,
        )


@contextmanager
def _live_rows() -> Iterator[Callable[[Interval], None]]:
    """Shows rows as they come, only where stderr is a terminal.

    Removes them when the table follows on the same one.
    """
    if not sys.stderr.isatty():
        yield lambda row: None
        return
    n_shown = 0

    def show(row: Interval) -> None:
        nonlocal n_shown
        n_shown += 1
        note("  ".join(cells(row)))

    yield show
    if n_shown and sys.stdout.isatty():
        wipe_notes(n_shown)


def _report(
    plan: _Plan, ready: Ready, run: SpeedtestRun, log: PathSamples, socket: Path, as_json: bool
) -> int:
    promised = PathLabel.DIRECT if ready.path is PathKind.DIRECT else PathLabel.RELAY
    labels = [_label(run, row, log, promised) for row in run.rows]
    kind = _label(run, overall(run.rows), log, promised)
    via = ready.via if kind == promised else _current_via(socket, ready)
    if as_json:
        path = CarryingPath(kind=kind, via=via, latency_ms=ready.latency_ms)
        told = report(plan.workspace, plan.direction, path, run.rows, labels)
        say_json(told)
    else:
        say(*table(run.rows))
    if kind != promised:
        note(f"The path changed: the test began by {promised}, and its data went by {kind} (now {via}).")
    if plan.path is Pin.DIRECT and kind is not PathLabel.DIRECT:
        raise UserError(
            "the direct path was lost during the test, and the relay took over",
            exit_code=Exit.ONLY_RELAYED,
            code="only_relayed",
        )
    return Exit.DONE


def _label(run: SpeedtestRun, row: Interval, log: PathSamples, otherwise: PathLabel) -> PathLabel:
    return label(log.between(run.started_at + row.start, run.started_at + row.end), otherwise)


def _current_via(socket: Path, ready: Ready) -> str:
    """Returns the current path's address or relay, after it has changed during the test."""
    try:
        peers = ask_status(socket).peers
    except UserError:
        return ready.via
    return next((peer.path.via for peer in peers if peer.name == ready.name), ready.via)
