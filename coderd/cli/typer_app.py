"""Construction of both programs' typer apps.

They have plain help out of docstrings, and the options that every program has.
"""

import inspect
from collections.abc import Callable

import typer
from typer.core import TyperCommand

from coderd.cli.completion import complete, completion
from coderd.cli.version import only_version

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
"""How every command's help is asked for, and how many columns of a wide terminal it takes."""


def new_app(text: str) -> typer.Typer:
    """Returns an app, or a group of commands in one, with this help."""
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
    hidden: bool = False,
) -> None:
    """Adds a command.

    Its docstring is its help, ``short`` its line in the list of commands, ``cls`` its parser.
    """
    text = help_text(command.__doc__ or "")
    app.command(name, cls=cls, help=text, short_help=short, hidden=hidden)(command)


def program(text: str) -> typer.Typer:
    """Returns the app of a whole program, with ``--version`` and shell completion.

    Its commands are still to be added.
    """
    app = new_app(text)
    app.callback()(only_version)
    return app


def add_completion(app: typer.Typer) -> None:
    """Adds ``completion`` and its hidden helper, last of the program's commands."""
    add(app, "completion", completion, "Print the completion script of a shell.")
    add(app, "__complete", complete, "", hidden=True)


def help_text(docstring: str) -> str:
    """Returns a docstring as typer's help.

    Paragraphs with indented lines stay as they are, quotes of code go.
    """
    paragraphs = inspect.cleandoc(docstring).replace("``", "").split("\n\n")
    return "\n\n".join(
        f"\b\n{part}" if "\n " in part or part.startswith(" ") else part for part in paragraphs
    )
