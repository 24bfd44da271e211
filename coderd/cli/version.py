"""``--version`` of every program, and ``coderctl version``.

The command shows what runs here, as the daemon and at the server.
"""

import re
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

import coderd
from coderd.cli.options import SOCKET, Json, Socket, Url
from coderd.cli.say import note, say, say_json
from coderd.model.errors import Exit, UserError


def _show_version(context: typer.Context, is_asked_for: bool) -> None:
    if is_asked_for:
        say(f"{context.find_root().info_name} {coderd.__version__}")
        raise typer.Exit


Version: TypeAlias = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit."),
]


def only_version(version: Version = False) -> None:
    """Takes the options of a program that stand before its command."""


def version(url: Url = None, socket: Socket = SOCKET, json: Json = False) -> int:
    """Show the versions of coderctl, of this machine's daemon and of the server, and whether they differ.

    Needs no token. A daemon that does not run, or a server that cannot be reached, has no version.

    Examples:
      coderctl version
      coderctl version --json | jq .skew
    """
    server_url, server = _server(url)
    found = {"client": coderd.__version__, "daemon": _daemon(socket), "server": server}
    differing = [name for name in ("daemon", "server") if found[name] not in (None, coderd.__version__)]
    if json:
        say_json({**found, "url": server_url, "skew": differing})
        return Exit.DONE
    for name, text in found.items():
        say(f"{name:6}  {text or 'unknown'}" + (f"  {server_url}" if name == "server" and server_url else ""))
    for name in differing:
        note(_advice(name, found[name] or ""))
    return Exit.DONE


def is_older(one: str, other: str) -> bool:
    """Tells whether a version comes before another, by its first three numbers alone."""
    return _numbers(one) < _numbers(other)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d{1,9}", text, re.ASCII)[:3]]


def _advice(name: str, found: str) -> str:
    """Returns what to do about a daemon or server of another version."""
    if not is_older(found, coderd.__version__):
        return f"The {name} is newer than this coderctl: update coderctl."
    cure = "restart it, as with: sudo systemctl restart coderd" if name == "daemon" else "update it"
    return f"The {name} is older than this coderctl: {cure}."


def _daemon(socket: Path) -> str | None:
    from coderd.cli.status import ask_status

    try:
        return ask_status(socket).version
    except UserError as error:
        note(f"daemon: {error.message}")
        return None


def _server(url: str | None) -> tuple[str | None, str | None]:
    """Returns the server's URL, without its trust, and its version; None for what is not known."""
    from coderd.cli.login import load_session, saved_for
    from coderd.config.url import parse_server_url

    saved = load_session()
    if url is None and saved is None:
        return None, None
    server = parse_server_url(url if url is not None else saved.url if saved is not None else "")
    known = saved_for(server)
    trusted = known.url if known is not None and not server.trust else server.text
    from coderd.api.io.client import ApiClient  # late: HTTP costs what status should not pay

    try:
        return str(server), ApiClient(trusted).health().version
    except UserError as error:
        note(f"server: {error.message}")
        return str(server), None
