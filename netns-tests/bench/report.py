"""Where results go.

To stdout as a table or as JSON, and into the command's own section of docs/benchmarks.md.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lab import LabError

from bench.results import Result

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def say(text: str) -> None:
    """Tells whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def add_form_options(parser: argparse.ArgumentParser) -> None:
    """``--json`` and ``--write``."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON to stdout instead of the table")
    form.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md as well")


def publish(
    options: argparse.Namespace, section: str, results: Iterable[Result], table: str, notes: Sequence[str]
) -> None:
    """Gives the results out as the command line asked.

    Args:
        options: with what `add_form_options` added.
        section: the part of the document that ``--write`` replaces.
        results: for JSON.
        table: for people.
        notes: sentences that go below the table.
    """
    if options.json:
        print_json([result.as_json() for result in results], notes)
    else:
        publish_text(table, notes, section if options.write else None)


def print_json(cases: Sequence[Mapping[str, object]], notes: Sequence[str]) -> None:
    """All cases, and which machine they are of."""
    report = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "cases": cases, "notes": list(notes)}
    print(json.dumps(report, indent=2))


def publish_text(table: str, notes: Sequence[str], section: str | None) -> None:
    """The words for people, to stdout and into a section if there is one to write."""
    heading = f"{time.strftime('%Y-%m-%d')}, {machine()}."
    text = f"{heading}\n\n{table}\n\n" + "".join(f"- {note}\n" for note in notes)
    print(text)
    if section is not None:
        write_section(section, text)


def write_section(name: str, text: str, document: Path = DOCUMENT) -> None:
    """Replaces what stands between a section's two markers. LabError where it has none."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    old = document.read_text(encoding="utf-8")
    before, found, rest = old.partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        raise LabError(f"{document} has no section {name!r} to write into")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def machine() -> str:
    """The machine in a few words."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def load() -> str:
    """How busy the machine is before a run, in a sentence."""
    return f"Load average before the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
