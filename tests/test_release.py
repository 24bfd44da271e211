"""``scripts/release --check``: version and changelog agree, and what it says where they do not."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
assert _spec is not None
assert _spec.loader is not None
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)

GOOD = "# Changelog\n\n## Unreleased\n\n### Added\n\n- a\n  b\n- c\n\n## 0.2.0 – 2026-11-30\n\n- d\n\n## 0.1.0 – 2026-11-23\n"


def test_version_and_changelog_of_this_tree_agree() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "release", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_changelog_has_a_part_per_version_and_counts_its_entries() -> None:
    found = release.parts(GOOD)
    assert list(found) == ["Unreleased", "0.2.0", "0.1.0"]
    assert [release.n_entries(text) for text in found.values()] == [2, 1, 0]
    assert release.faults("0.2.0", found) == []


def test_another_version_in_the_tree_is_a_fault() -> None:
    (fault,) = release.faults("0.3.0", release.parts(GOOD))
    assert "0.3.0" in fault
    assert "0.2.0" in fault


@pytest.mark.parametrize(
    "text",
    [
        "## 0.1\n",
        "## 0.1.0 - 2026-11-23\n",
        "## 0.1.0 – 2026-13-01\n",
        "## Unreleased\n\n### News\n",
        "## Unreleased\n## Unreleased\n",
    ],
)
def test_a_malformed_heading_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"CHANGELOG|month"):
        release.parts(text)


def test_versions_stand_newest_first_below_what_is_unreleased() -> None:
    found = release.parts("## 0.1.0 – 2026-11-23\n## 0.2.0 – 2026-11-30\n")
    assert len(release.faults("0.1.0", found)) == 2
