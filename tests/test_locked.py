"""What scripts/install installs.

It takes locked versions by their hashes alone, each within the bounds that pyproject.toml gives.
"""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKED = ROOT / "scripts" / "locked"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
RUN, LAB, DEV, BUILD = PROJECT["project"]["dependencies"], EXTRAS["lab"], EXTRAS["dev"], EXTRAS["build"]
WANTED = {
    "run": RUN,
    "lab": [*RUN, *LAB],
    "dev": [*RUN, *LAB, *DEV],
    "build": [*BUILD, *PROJECT["build-system"]["requires"]],
}
ENTRY = re.compile(
    r"(?P<name>[a-z0-9._-]+)==(?P<version>[^ ;]+)(?: ; [^\\]+)?(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)"
)
FIXED = {
    "cryptography": "46.0.7",
    "jinja2": "3.1.6",
    "pynacl": "1.6.2",
    "starlette": "1.3.1",
    "certifi": "2024.7.4",
    "h11": "0.16",
    "h2": "4.3",
    "idna": "3.15",
    "mako": "1.3.12",
    "markdown-it-py": "2.2",
    "pygments": "2.20",
    "pytest": "9.0.3",
    "requests": "2.33",
    "urllib3": "2.7",
    "werkzeug": "3.1.6",
    "pip": "26.1.2",
    "setuptools": "83",
}
"""The first version without the faults that pyproject.toml names beside each."""
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def entries(kind: str) -> dict[str, re.Match[str]]:
    """Every line of a lock, continued lines in one, by the package's name."""
    text = (LOCKED / f"{kind}.txt").read_text(encoding="utf-8")
    assert all(HASH.fullmatch(line) for line in text.splitlines() if line.startswith(" "))
    text = text.replace("\\\n    ", "")
    found = [ENTRY.fullmatch(line) for line in text.splitlines()]
    assert all(found), [line for line, entry in zip(text.splitlines(), found, strict=True) if entry is None]
    return {canonicalize_name(entry["name"]): entry for entry in found if entry is not None}


@pytest.mark.parametrize("kind", WANTED)
def test_a_lock_has_a_version_and_hashes_for_everything_that_is_wanted_and_no_host(kind: str) -> None:
    locked = entries(kind)
    for text in WANTED[kind]:
        wanted = Requirement(text)
        entry = locked[canonicalize_name(wanted.name)]
        assert entry["version"] in wanted.specifier, text
    assert "://" not in (LOCKED / f"{kind}.txt").read_text(encoding="utf-8")


def test_all_locks_agree() -> None:
    versions: dict[str, str] = {}
    for kind in WANTED:
        for name, entry in entries(kind).items():
            assert versions.setdefault(name, entry["version"]) == entry["version"], name


@pytest.mark.parametrize("text", [*RUN, *LAB, *DEV, *BUILD])
def test_every_dependency_has_a_lower_bound(text: str) -> None:
    assert any(one.operator == ">=" for one in Requirement(text).specifier), text


def test_no_version_with_a_fault_that_is_known_is_admitted() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    named = {Requirement(line.split('"')[1]).name for line in lines if "CVE-" in line}
    assert named == FIXED.keys()
    for text in (*RUN, *LAB, *DEV, *BUILD):
        wanted = Requirement(text)
        if wanted.name in FIXED:
            (least,) = (one.version for one in wanted.specifier if one.operator == ">=")
            assert Version(least) >= Version(FIXED[wanted.name]), text


def test_nothing_is_installed_but_by_hash_and_the_project_itself() -> None:
    script = (ROOT / "scripts" / "install").read_text(encoding="utf-8")
    calls = [line.strip() for line in script.splitlines() if re.match(r" *pip ", line)]
    assert len(calls) == 3
    assert script.count("pip install") == 1, "in the function pip"
    for call in calls[:2]:
        assert {"--require-hashes", "--requirement"} <= set(call.split())
    assert "--only-binary :all:" in calls[0]
    assert {"--no-deps", "--no-build-isolation", "--no-index"} <= set(calls[2].split())
    assert "--no-build-isolation" in calls[1]
