"""``scripts/demo`` as people call it: what it proves, how it fails, and what it leaves behind."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from traces import processes_of, realm_made_by, traces

DEMO = Path(__file__).parents[1] / "scripts" / "demo"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150), pytest.mark.alone("moves data in bulk")]


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    before = traces()
    yield
    assert traces() == before


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DEMO, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_every_claim_holds() -> None:
    told = demo()
    assert told.returncode == 0, told.stdout + told.stderr
    assert "✗" not in told.stdout
    assert "\x1b" not in told.stdout, "colours belong on a terminal"
    for claim in ("by the relay: relay coder", "the path to dev is direct: direct 203.0.113.2:"):
        assert f"✓ {claim}" in told.stdout


def test_with_nats_that_block_udp_the_claim_of_a_direct_path_fails() -> None:
    told = demo("--block-udp")
    assert told.returncode == 1, told.stdout + told.stderr
    assert "this claim failed: the path to dev is direct (read: relay coder)" in told.stderr
    assert "Traceback" not in told.stderr


def test_an_interrupt_ends_it_at_once_and_clean() -> None:
    with subprocess.Popen(
        [DEMO], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as told:
        assert told.stdout is not None
        for line in told.stdout:
            if "this machine has joined" in line:
                break
        realm = realm_made_by(told.pid)
        os.killpg(told.pid, signal.SIGINT)
        _, errors = told.communicate(timeout=20)
    assert told.returncode == 130
    assert "Traceback" not in errors
    assert not processes_of(realm)
