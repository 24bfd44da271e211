"""``coderctl up``, ``down`` and ``logout``."""

from typing import Annotated

import typer

from coderd.cli.options import SOCKET, Pin, Socket, TokenFile
from coderd.cli.session import forget_session, save_session, session_at
from coderd.cli.shell import note
from coderd.config.url import parse_pinned_url
from coderd.control.io.client import ControlClient
from coderd.control.messages import (
    DOWN,
    LOGOUT,
    UP,
    DownParams,
    LogoutParams,
    UpParams,
    UpResult,
)
from coderd.model.errors import Exit

PATIENCE = 60.0
"""Seconds between two words of a daemon that joins."""


def up(
    url: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="The server. Without it: join again as before.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="This device's name; by default the host's.")
    ] = None,
    token_file: TokenFile = None,
    pin: Pin = None,
    socket: Socket = SOCKET,
) -> int:
    """Sign in, enrol this machine as your device and join the network.

    The token is read from --token-file, a pipe or a prompt. The daemon exchanges it for a token of its own; yours is kept in
    ~/.config/coderd/session.json for the commands that ask the server.

    Examples:
      sudo coderctl up https://192.0.2.10:3000 --pin sha256:5f0c...
      sudo coderctl up http://192.0.2.10:3000 --token-file token.txt
      sudo coderctl up
    """
    session = None if url is None else session_at(parse_pinned_url(url, pin), token_file)
    with ControlClient(socket) as client:
        params = UpParams(
            url=session.url if session else None, token=session.token if session else None, name=name
        )
        call = client.start(UP, params, patience=PATIENCE)
        for progress in call:
            note(f"{progress.text}...")
    if session is not None:
        save_session(session)
    _welcome(call.result)
    return Exit.DONE


def _welcome(result: UpResult) -> None:
    print(f"Joined {result.url} as {result.name}, {result.address}")


def down(socket: Socket = SOCKET) -> int:
    """Leave the network, and keep this machine enrolled: ``coderctl up`` joins again.

    Examples:
      sudo coderctl down
    """
    with ControlClient(socket) as client:
        client.call(DOWN, DownParams(), patience=PATIENCE)
    print("Left the network")
    return Exit.DONE


def logout(socket: Socket = SOCKET) -> int:
    """Leave the network, and forget this machine's keys and tokens here and at the server.

    Examples:
      sudo coderctl logout
    """
    with ControlClient(socket) as client:
        call = client.start(LOGOUT, LogoutParams(), patience=PATIENCE)
        for progress in call:
            note(f"{progress.text}...")
    forget_session()
    print("Signed out")
    return Exit.DONE
