"""What stands in ``examples/`` runs as its own text says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_nat_experiment_prints_a_ping_and_its_path() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "my_nat.py"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] in ("path: direct", "path: relay")
