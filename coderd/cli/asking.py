"""What the commands that ask the server share: tables, JSON, times, and the question before a deletion."""

import sys
import time
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

from coderd.cli.say import note, say, say_json
from coderd.cli.status_text import aligned
from coderd.cli.values import ago_text
from coderd.model.errors import Exit, UserError

Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="Those of all users; for admins and owners.")]


def print_json(value: object) -> None:
    """Prints the result for programs as JSON."""
    say_json(value)


def print_rows(rows: Sequence[Sequence[str]], empty: str) -> None:
    """Prints aligned rows on stdout; without any, prints ``empty`` on stderr."""
    for line in aligned([tuple(row) for row in rows]):
        say(line)
    if not rows:
        note(empty)


def print_facts(facts: dict[str, str]) -> None:
    """Prints the properties of one thing, a line each, without those that are empty."""
    print_rows([(f"{name}:", value) for name, value in facts.items() if value], "")


def confirm(question: str, yes: bool) -> None:
    """Asks for confirmation at a terminal.

    Raises UserError if the answer is no, or if stdin is not a terminal.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(
            "this needs confirmation, and stdin is not a terminal",
            exit_code=Exit.USAGE,
            hint="Add --yes.",
            code="unconfirmed",
        )
    note(f"{question} [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("cancelled: nothing was changed", code="unconfirmed")


def since_text(at: float) -> str:
    """Returns how long ago a wall-clock time was, in words."""
    return ago_text(max(0.0, time.time() - at))


def until_text(at: float | None) -> str:
    """Returns a wall-clock time in UTC; ``never`` for None."""
    if at is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
