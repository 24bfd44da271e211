"""The end of every long-running command, whatever its loop does; and what is said to systemd while it turns."""

import ast
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from coderd.metrics import Counters
from coderd.process.stalls import STALLED_MS, STALLS, Stalls
from coderd.process.supervisor import Supervisor, supervised, watchdog_patience
from coderd.process.turns import TurnWatch
from tests.shell.tun_node import with_own_tun

ROOT = Path(__file__).parents[2]
LIMIT = 0.6
"""Seconds in the place of nine."""

SPIN = "while True: pass"
BLOCK = "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()"
STUCK = {
    "spins": SPIN,
    "waits for a lock": BLOCK,
    "sleeps": "time.sleep(60)",
    "ends slowly": "import atexit; atexit.register(time.sleep, 60)",
}

HANDLES = """
import signal, sys, time, trio
from coderd.process import ending
ending.END_LIMIT = {limit}

def get_stuck():
    {stuck}

async def main():
    with ending.ending_signals() as signals:
        print("ready", flush=True)
        get_stuck()
        async for number in signals:
            return

trio.run(main)
"""
_HTTP = "--access-url http://192.0.2.10:3000 --http-address 127.0.0.1:0 --stun-address off --state-dir {}"
COMMANDS = {
    "server": f"server {_HTTP}",
    "derp": f"derp {_HTTP} --verify-url http://127.0.0.1:9/derp/verify",
    "run": "run --interface end0 --state-dir {} --socket {}.sock",
    "wireguard": "wireguard --foreground end0",
}
"""Long-running commands; {} is a directory of their own."""
SPINS = """
import signal, trio
from coderd.process import ending
ending.END_LIMIT = {limit}

class Spins(trio.abc.Instrument):
    def before_io_wait(self, timeout):
        if callable(signal.getsignal(signal.SIGTERM)):
            print("spinning", flush=True)
            while True: pass

run = trio.run
trio.run = lambda main, *args, **options: run(main, *args, **options, instruments=[Spins()])
from coderd.cli.coderd import main
main()
"""


@contextmanager
def started(argv: list[str], **environment: str) -> Iterator["subprocess.Popen[str]"]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        argv, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment}, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: "subprocess.Popen[str]") -> tuple[float, str]:
    """Seconds from SIGTERM to the end, and what was said meanwhile."""
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    return time.monotonic() - begun, said


@pytest.mark.alone("measures how soon a process ends")
@pytest.mark.slow
@pytest.mark.parametrize("stuck", STUCK.values(), ids=STUCK)
def test_a_process_that_is_stuck_ends_in_time_and_says_where_it_was(stuck: str) -> None:
    with started([sys.executable, "-c", HANDLES.format(limit=LIMIT, stuck=stuck)]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        seconds, said = end(process)
    assert process.returncode == 1
    assert LIMIT <= seconds < LIMIT + 2
    assert "most recent call first" in said


@pytest.mark.alone("measures how soon a process ends")
@pytest.mark.slow
def test_repeated_signals_win_no_time() -> None:
    with started([sys.executable, "-c", HANDLES.format(limit=LIMIT, stuck=SPIN)]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(4):
            process.send_signal(signal.SIGTERM)
            time.sleep(LIMIT / 2)
        assert process.poll() == 1


@pytest.mark.alone("measures how soon a process ends")
@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.parametrize("name", COMMANDS)
def test_every_daemon_ends_though_its_loop_spins(name: str, tmp_path: Path) -> None:
    arguments = COMMANDS[name].format(*[tmp_path / "own"] * 2).split()
    argv = [sys.executable, "-c", SPINS.format(limit=LIMIT), *arguments]
    with started(with_own_tun(argv, mode="600")) as process:
        assert process.stdout is not None
        assert "spinning\n" in iter(process.stdout.readline, ""), process.communicate()
        seconds, said = end(process)
    assert process.returncode == 1
    assert seconds < LIMIT + 2
    assert "before_io_wait" in said


@pytest.mark.slow
def test_nothing_else_receives_the_signals_that_end_a_process() -> None:
    """Else a command would have no bound on its end."""
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "coderd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("open_signal_receiver")
    }
    assert found == {"coderd/process/ending.py"}


# systemd


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_who_waits_for_signs_of_life(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_patience(environment) == seconds


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What NOTIFY_SOCKET leads to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def heard(sock: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(sock.recv(4096).decode())
        except BlockingIOError:
            return said


async def test_systemd_hears_twice_in_its_patience_that_the_loop_turns(
    autojump_clock: MockClock, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    async with supervised() as supervisor:
        supervisor.ready()
        await trio.sleep(60.5)
        supervisor.stopping()
        assert sorted(heard(systemd)) == ["READY=1", "STOPPING=1", *["WATCHDOG=1"] * 5]
    assert heard(systemd) == []


@pytest.mark.slow
async def test_a_loop_that_stands_still_says_nothing(systemd: socket.socket) -> None:
    with closing(Supervisor()) as supervisor:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.beat, 0.02)
            await trio.sleep(0.1)
            assert "WATCHDOG=1" in heard(systemd)
            time.sleep(0.1)  # noqa: ASYNC251  # the stall
            assert heard(systemd) == []
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("unit", ["coderd.service", "coderd-server.service", "coderd-derp.service"])
def test_every_unit_that_goes_on_has_a_watchdog_and_kills_no_sooner_than_the_process_ends_itself(
    unit: str,
) -> None:
    lines = (ROOT / "systemd" / unit).read_text(encoding="utf-8").splitlines()
    assert {"Type=notify", "WatchdogSec=30", "TimeoutStopSec=10", "Restart=always"} <= set(lines)


# Turns


class Clock:
    """Says what it is told to say."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_turns_that_are_long_are_counted_and_the_last_ten_minutes_of_them_told() -> None:
    counters, clock = Counters(), Clock()
    watch = TurnWatch(counters, clock)
    assert counters == {STALLS: 0, STALLED_MS: 0}
    for seconds in (0.1, 0.5, 0.249, 2.0):
        watch.after_io_wait(0.0)
        clock.now += seconds
        watch.before_io_wait(0.0)
        clock.now += 30.0  # in the kernel: nobody waits for us
    assert counters == {STALLS: 2, STALLED_MS: 2500}
    assert watch.recent() == Stalls(2, 2.0)
    clock.now += 540.0
    assert watch.recent() == Stalls(1, 2.0)
    clock.now += 600.0
    assert watch.recent() == Stalls()


async def test_a_task_that_keeps_the_loop_is_noticed_and_one_that_waits_is_not() -> None:
    counters = Counters()
    with TurnWatch(counters):
        await trio.sleep(0.3)
        assert counters[STALLS] == 0
        time.sleep(0.3)  # noqa: ASYNC251  # the stall
        await trio.lowlevel.checkpoint()
    assert counters[STALLS] == 1
    assert counters[STALLED_MS] >= 300
