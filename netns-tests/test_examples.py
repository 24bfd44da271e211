"""What stands in ``examples/`` runs as its own text says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_example(name: str) -> list[str]:
    """Runs a script of ``examples/``. Returns the lines that it printed."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_nat_experiment_prints_a_ping_and_its_path() -> None:
    assert run_example("my_nat.py")[-1] in ("path: direct", "path: relay")


@pytest.mark.slow
def test_the_small_team_shares_a_port_refuses_another_and_revokes_the_share() -> None:
    lines = run_example("small_team.py")
    assert "HTTP 200: port 8000 of dev, through the tunnel" in lines
    assert lines[lines.index("bob$ coderctl nc admin/dev 8001") + 1].startswith("coderctl: ")
    assert lines[-1] == "The share was used, and revoked."
