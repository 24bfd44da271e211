"""``scripts/lab`` as people call it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from lab import TOPOLOGIES, until
from traces import children_of, processes_of, realm_made_by, traces

pytestmark = pytest.mark.alone("compares the machine's interfaces and mounts before and after")

LAB = Path(__file__).parents[1] / "scripts" / "lab"


def lab(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LAB, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def test_list_names_every_topology() -> None:
    listed = lab("list")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(TOPOLOGIES)


@pytest.mark.parametrize("arguments", [("run", "easy-nat"), ("run", "nowhere", "--", "true"), ("dance",)])
def test_wrong_usage_ends_2(arguments: tuple[str, ...]) -> None:
    done = lab(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_server_that_does_not_start_is_the_labs_failure() -> None:
    done = lab("run", "no-nat", "--server-arg=--no-such-option", "--", "true")
    assert done.returncode == 125
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_the_command_runs_on_the_users_host_and_its_exit_code_is_the_labs() -> None:
    done = lab("run", "no-nat", "--", "sh", "-c", 'hostname; coderctl status; echo "$CODER_URL"; exit 37')
    assert done.returncode == 37, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert (first, last) == ("user", "http://192.0.2.10:3000")
    assert "dev" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_nothing_is_left_when_a_run_is_stopped(how: signal.Signals) -> None:
    before = traces()
    argv = [LAB, "run", "no-nat", "--", "sh", "-c", "echo running; exec sleep 1111"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"running\n"
        realm = realm_made_by(run.pid)
        run.send_signal(how)
        run.wait(20)
    assert run.returncode == {signal.SIGINT: 130, signal.SIGTERM: 130, signal.SIGKILL: -9}[how]
    until(lambda: not processes_of(realm), "the lab's last process to end", timeout=5)
    assert traces() == before


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_matrix_that_is_stopped_begins_no_more_and_leaves_nothing(how: signal.Signals) -> None:
    """As ^C does it: to the whole process group, which the matrix's workers are not in."""
    before = traces()
    argv = [LAB, "matrix", "--jobs", "2", "--only", "*-by-port/*"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as matrix:
        workers = until(lambda: two(children_of(matrix.pid)), "two workers")
        realms = [until(lambda worker=worker: maybe_realm(worker), "a laboratory") for worker in workers]
        os.killpg(matrix.pid, how)
        matrix.wait(5)
    assert matrix.returncode == (-9 if how is signal.SIGKILL else 130)
    until(lambda: not any(map(is_alive, workers)), "the workers to end", timeout=5)
    until(lambda: not any(map(processes_of, realms)), "the laboratories' last process to end", timeout=5)
    assert traces() == before


def two(pids: list[int]) -> list[int]:
    return pids if len(pids) == 2 else []


def maybe_realm(maker: int) -> str:
    try:
        return realm_made_by(maker)
    except ValueError:  # not made yet
        return ""


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("topology", "via"),
    [
        ("easy-nat", "via direct ("),
        ("hard-nat-both", "via coder"),
        ("hard-strict", "via coder"),
        ("udp-blocked", "via coder"),
    ],
)
def test_a_speed_test_says_how_it_went(topology: str, via: str) -> None:
    done = lab("run", topology, "--", "coderctl", "speedtest", "dev", "-t", "3s")
    assert done.returncode == 0, done.stderr
    assert via in done.stdout.splitlines()[0]
    assert done.stdout.rstrip().endswith("Mbits/sec")
