"""Compares version, changelog and tree, and makes the tag of a release; see ``scripts/release``."""

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADING = re.compile(r"^## (?:(Unreleased)|(\d+\.\d+\.\d+) – (\d{4}-\d\d-\d\d))$")
KINDS = ("Before you upgrade", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
VERSION = re.compile(r'^__version__ = "(\d+\.\d+\.\d+)"$', re.MULTILINE)


def parts(changelog: str) -> dict[str, str]:
    """Returns the text under each version's heading, newest first, *Unreleased* among them.

    Raises:
        ValueError: a heading is malformed, or stands twice.
    """
    found: dict[str, str] = {}
    name = ""
    for line in changelog.splitlines():
        if line.startswith("## "):
            heading = HEADING.match(line)
            if heading is None:
                raise ValueError(f"CHANGELOG.md: not a heading of a version: {line!r}")
            name = heading[1] or heading[2]
            if name in found:
                raise ValueError(f"CHANGELOG.md: two headings for {name}")
            if heading[3]:
                date.fromisoformat(heading[3])
            found[name] = ""
        elif line.startswith("### ") and line[4:] not in KINDS:
            raise ValueError(f"CHANGELOG.md: no kind of change: {line!r}; there are {', '.join(KINDS)}")
        elif name:
            found[name] += line + "\n"
    return found


def faults(version: str, found: dict[str, str]) -> list[str]:
    """Returns a sentence for each thing in which the changelog disagrees with the version or with itself."""
    told = []
    names = list(found)
    if names[:1] != ["Unreleased"]:
        told.append('CHANGELOG.md: "## Unreleased" is not its first heading')
    versions = [tuple(map(int, name.split("."))) for name in names if name != "Unreleased"]
    if versions != sorted(versions, reverse=True):
        told.append("CHANGELOG.md: versions do not stand newest first")
    released = next((name for name in names if name != "Unreleased"), "none")
    if released != version:
        told.append(f"coderd/__init__.py says {version}, the newest version of CHANGELOG.md is {released}")
    return told


def n_entries(text: str) -> int:
    """Returns how many changes a part of the changelog names."""
    return sum(line.startswith("- ") for line in text.splitlines())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def main(arguments: list[str]) -> int:
    """Runs the command line; returns its exit code."""
    match = VERSION.search((ROOT / "coderd" / "__init__.py").read_text(encoding="utf-8"))
    if match is None:
        print("coderd/__init__.py: no __version__ of three numbers", file=sys.stderr)
        return 1
    version = match[1]
    try:
        found = parts((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    told = faults(version, found)
    n_waiting = n_entries(found.get("Unreleased", ""))
    if arguments == ["--check"]:
        print(
            "\n".join(told) or f"{version}: version and changelog agree; {n_waiting} changes are unreleased"
        )
        return 1 if told else 0
    if n_waiting:
        told.append(f"CHANGELOG.md: {n_waiting} changes stand under Unreleased; give them a version")
    if _git("status", "--porcelain"):
        told.append("the tree has changes that are not committed")
    if _git("tag", "--list", f"v{version}"):
        told.append(f"there is a tag v{version} already")
    if told:
        print("\n".join(told), file=sys.stderr)
        return 1
    message = f"coderd {version}\n\n{found[version].strip()}\n"
    _git("tag", "--annotate", "--cleanup=verbatim", "--message", message, f"v{version}")
    print(f"tagged v{version}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
