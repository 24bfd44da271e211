"""What the commands that ask the server have in common: tables, JSON, times, and a question before something is gone."""

import sys
import time
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

from coderd.cli.say import note, say, say_json
from coderd.cli.status_text import aligned
from coderd.cli.values import ago_text
from coderd.model.errors import Exit, UserError

Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="Everybody's; for admins and owners.")]


def print_json(value: object) -> None:
    """The result for programs."""
    say_json(value)


def print_rows(rows: Sequence[Sequence[str]], empty: str) -> None:
    """The result for people: aligned rows; or, where there are none, a word beside the result."""
    for line in aligned([tuple(row) for row in rows]):
        say(line)
    if not rows:
        note(empty)


def print_facts(facts: dict[str, str]) -> None:
    """One thing's properties, a line each; those without a value are left out."""
    print_rows([(f"{name}:", value) for name, value in facts.items() if value], "")


def confirm(question: str, yes: bool) -> None:
    """Asks at a terminal. Raises UserError where the answer is no, or where nobody can be asked."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(
            "nobody is there to confirm it", exit_code=Exit.USAGE, hint="Add --yes.", code="unconfirmed"
        )
    note(f"{question} [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("left as it is", code="unconfirmed")


def since_text(at: float) -> str:
    """How long ago something was, given its wall-clock time."""
    return ago_text(max(0.0, time.time() - at))


def until_text(at: float | None) -> str:
    """When something ends, given its wall-clock time."""
    if at is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
