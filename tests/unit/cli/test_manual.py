"""The page of options, the man pages and every help screen come from the commands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from coderd.cli.manual import TABLES, man_pages, options_page, programs
from coderd.cli.shell import run_app
from coderd.model.errors import Exit

PAGE = Path(__file__).parents[3] / "docs" / "options.md"


def all_commands() -> Iterator[tuple[str, Any]]:
    pending = [(name, typer.main.get_command(app)) for name, app in programs().items()]
    while pending:
        name, command = pending.pop()
        yield name, command
        children = getattr(command, "commands", {}).items()
        pending += [(f"{name} {child}", each) for child, each in children if not each.hidden]


COMMANDS = dict(all_commands())


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == options_page(), (
        "write it anew: python -m coderd.cli.manual docs"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_value_has_a_kind_and_every_argument_a_meaning(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if not getattr(parameter, "is_flag", False):
            assert parameter.metavar, parameter.opts
        assert parameter.help, parameter.opts


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize("name", TABLES)
def test_help_shows_each_variable_and_no_bare_type(
    name: str, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    program, *rest = name.split()
    assert run_app(programs()[program], program, [*rest, "--help"]) == Exit.DONE
    shown = capsys.readouterr().out
    settings, _ = TABLES[name]
    for setting in settings:
        assert setting.flag in shown
        assert setting.environment in shown
        assert setting.help
    assert "<" not in shown.split("Options:")[1]


def test_names_and_variables_of_a_table_are_its_own() -> None:
    for settings, _ in TABLES.values():
        assert len({each.name for each in settings}) == len(settings)
        assert len({each.environment for each in settings}) == len(settings)


def test_a_man_page_has_a_section_for_each_command_and_no_line_that_troff_would_take_for_its_own() -> None:
    pages = man_pages()
    assert set(pages) == {"coderd.1", "coderctl.1", "coderd-wireguard.1"}
    known = (".TH", ".SH", ".SS", ".B", ".TP", ".PP", ".nf", ".fi")
    for page in pages.values():
        assert all(line.split()[0] in known for line in page.split("\n") if line.startswith((".", "'")))
    assert ".SS coderd server backup" in pages["coderd.1"]
    assert "\\-\\-listen\\-port PORT" in pages["coderd.1"]
    assert "__complete" not in pages["coderctl.1"]
