"""How both commands make their typer apps: plain help out of docstrings, nothing installed, nothing pretty."""

import inspect
from collections.abc import Callable

import typer
from typer.core import TyperCommand

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
"""How every command's help is asked for, and how many columns of a wide terminal it takes."""


def new_app(text: str) -> typer.Typer:
    """An app, or a group of one."""
    return typer.Typer(
        help=help_text(text),
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=dict(CONTEXT),
    )


def add(
    app: typer.Typer,
    name: str,
    command: Callable[..., int | None],
    short: str,
    *,
    cls: type[TyperCommand] | None = None,
) -> None:
    """Adds a command: its docstring is its help, ``short`` its line in the list of commands, ``cls`` its parser."""
    app.command(name, cls=cls, help=help_text(command.__doc__ or ""), short_help=short)(command)


def help_text(docstring: str) -> str:
    """A docstring for typer: paragraphs that hold indented lines stay as they are, quotes of code go."""
    paragraphs = inspect.cleandoc(docstring).replace("``", "").split("\n\n")
    return "\n\n".join(
        f"\b\n{part}" if "\n " in part or part.startswith(" ") else part for part in paragraphs
    )
