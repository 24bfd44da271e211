"""``coderctl``: asks the daemon, and the server. Says which commands there are; each is a module of its own."""

import inspect
from collections.abc import Callable

import typer

from coderd.cli import workspaces
from coderd.cli.forward import port_forward
from coderd.cli.join import down, logout, up
from coderd.cli.nc import nc
from coderd.cli.ping import ping
from coderd.cli.shell import run
from coderd.cli.speedtest import speedtest
from coderd.cli.status import status

HELP = """Join your workspaces over an encrypted tunnel, directly where any path can be opened.

Start with:

  sudo coderctl up http://SERVER:3000
  coderctl status
  coderctl ping WORKSPACE
"""


def help_text(docstring: str) -> str:
    """A docstring for typer: paragraphs that hold indented lines keep them as they are."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(
        f"\b\n{part}" if "\n " in part or part.startswith(" ") else part for part in paragraphs
    )


def new_app(text: str) -> typer.Typer:
    """An app in the form that all of ours have: plain text, no shell completion to install, nothing pretty."""
    return typer.Typer(
        help=help_text(text),
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def add(app: typer.Typer, name: str, command: Callable[..., int | None]) -> None:
    """Adds a command, whose help is its docstring."""
    app.command(name, help=help_text(command.__doc__ or ""))(command)


def build_app() -> typer.Typer:
    """The whole of ``coderctl``."""
    app = new_app(HELP)
    for name, command in (
        ("up", up),
        ("down", down),
        ("logout", logout),
        ("status", status),
        ("ping", ping),
        ("speedtest", speedtest),
        ("port-forward", port_forward),
        ("nc", nc),
    ):
        add(app, name, command)
    group = new_app("Create, list and delete workspaces at the server.")
    add(group, "create", workspaces.create)
    add(group, "list", workspaces.list_workspaces)
    add(group, "delete", workspaces.delete)
    app.add_typer(group, name="workspaces")
    return app


def main() -> None:
    """The entry point."""
    run(build_app(), "coderctl")


if __name__ == "__main__":
    main()
