"""All that commands print goes through one place, and a log's lines through another."""

import ast
import io
import sys
from pathlib import Path

import pytest
import structlog

from coderd.cli.shell import show_error
from coderd.cli.shown import lines_text
from coderd.cli.status_text import aligned
from coderd.config.io.log import configure_logging
from coderd.model.errors import UserError
from coderd.model.visible import is_hidden

CLI = Path(__file__).parents[3] / "coderd" / "cli"
HOSTILE = "a\x1b]0;x\x07\x9b31m\u202e\u200b\u2028\r\nFORGED [bold]b[/bold]\ud800"
WRITERS = {"print", "typer.echo", "typer.secho", "click.echo", "sys.stdout.write", "sys.stderr.write"}
WRITERS |= {"sys.stdout.buffer.write", "sys.stdout.writelines", "os.write", "Console"}
MAY_WRITE = {
    ("say.py", "sys.stdout.write"): "the place",
    ("say.py", "sys.stdout.buffer.write"): "the place",
    ("say.py", "sys.stderr.write"): "the place",
    ("shell.py", "sys.stderr.write"): "typer's help, where a command is missing",
    ("nc.py", "os.write"): "bytes of a service, for a program",
    ("terminal.py", "os.write"): "the shell's own bytes",
}


def test_nothing_is_printed_elsewhere() -> None:
    found = {
        (path.name, ast.unparse(node.func))
        for path in CLI.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in WRITERS
    }
    assert found == set(MAY_WRITE)


def test_lines_for_a_terminal_are_made_in_one_place() -> None:
    made = {
        path.name
        for path in CLI.glob("*.py")
        if any(
            isinstance(node, ast.Call) and ast.unparse(node.func) == "Shown"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    assert made == {"shown.py"}


def assert_visible(text: str, *, n_lines: int) -> None:
    lines = text.split("\n")
    assert len(lines) == n_lines + 1
    assert not any(is_hidden(letter) for line in lines for letter in line)


def test_a_line_stays_one() -> None:
    assert_visible(lines_text([HOSTILE, "b"]), n_lines=2)


def test_a_row_stays_one_and_within_its_table() -> None:
    rows = aligned([[HOSTILE, "x", HOSTILE], ["y" * 10_000, "x"]])
    assert_visible("\n".join(rows) + "\n", n_lines=2)
    assert rows[0].index(" x ") < 300


def test_an_error_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_error("coderctl", UserError(HOSTILE, hint=HOSTILE))
    assert_visible(capsys.readouterr().err, n_lines=2)


def test_a_log_line_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        configure_logging()
        structlog.get_logger().info(HOSTILE, name=HOSTILE, error=ValueError(HOSTILE), many=[HOSTILE])
    finally:
        structlog.reset_defaults()
    assert_visible(stream.getvalue(), n_lines=1)


def test_no_line_of_a_traceback_passes_for_one_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        configure_logging()
        try:
            raise ValueError(HOSTILE)
        except ValueError as error:
            structlog.get_logger().error("failed", exc_info=error)
    finally:
        structlog.reset_defaults()
    first, *others = stream.getvalue().rstrip("\n").split("\n")
    assert "failed" in first
    assert all(line.startswith("  ") for line in others)
    assert not any(is_hidden(letter) for line in others for letter in line)
