"""``coderctl status``."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from coderd.cli.options import SOCKET, Json, Socket
from coderd.cli.say import say, say_json, say_text
from coderd.cli.status_text import NOT_JOINED, status_text
from coderd.control.io.client import ControlClient
from coderd.control.messages import STATUS, Status, StatusParams
from coderd.model.errors import Exit

WATCH_INTERVAL = 1.0


def status(
    socket: Socket = SOCKET,
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat it every second until ^C.")] = False,
) -> int:
    """Show this machine, its server and relay, and every peer with its path.

    Examples:
      coderctl status
      coderctl status --watch
      coderctl status --json | jq '.peers[] | {name, path}'

    Exits with 0 if the daemon has joined or is joining, with 1 if this machine is signed out or down.
    """
    if watch:
        _watch(socket, json)
    now = ask_status(socket)
    if json:
        say_json(now)
        return Exit.DONE
    say_text(status_text(now))
    return Exit.FAILED if now.state in NOT_JOINED else Exit.DONE


def ask_status(socket: Path) -> Status:
    """Returns the daemon's status. Raises UserError if it cannot be asked."""
    with ControlClient(socket) as client:
        return client.call(STATUS, StatusParams())


def _watch(socket: Path, as_json: bool) -> None:
    """Shows the status every ``WATCH_INTERVAL`` seconds until ^C."""
    if as_json or not sys.stdout.isatty():
        while True:
            now = ask_status(socket)
            if as_json:
                say_json(now, is_line=True)
            else:
                say_text(status_text(now))
                say("")
            time.sleep(WATCH_INTERVAL)
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        while True:
            live.update(Text(status_text(ask_status(socket)).rstrip()), refresh=True)
            time.sleep(WATCH_INTERVAL)
