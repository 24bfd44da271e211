"""``coderctl up``, ``down`` and ``logout``."""

from pathlib import Path
from typing import Annotated

import typer

from coderd.cli.login import forget_session, save_session, session_at
from coderd.cli.options import SOCKET, CaFile, Insecure, Pin, Socket, TokenFile
from coderd.cli.say import note, say
from coderd.config.url import ServerUrl, trusted_url
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
"""Seconds to wait for the daemon's next progress message while it joins."""


def up(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="The server. Without it: join again as before.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="This device's name.  [default: the host's]")
    ] = None,
    accept_inbound: Annotated[
        str | None,
        typer.Option(
            "--accept-inbound",
            metavar="PORTS",
            help="Ports of this machine that its peers may connect to: all, none, or 22,8000-8999. Kept until it is given again.  [default at first: none]",
        ),
    ] = None,
    token_file: TokenFile = None,
    pin: Pin = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    socket: Socket = SOCKET,
) -> int:
    """Sign in, enrol this machine as your device and join the network.

    The token is read from --token-file, a pipe or a prompt. The daemon exchanges it for a token of its own.
    Yours is saved in ~/.config/coderd/session.json for the commands that ask the server, with the server's
    URL and what it is trusted by.

    Examples:
      sudo coderctl up https://coder.example.com --token-file token.txt
      sudo coderctl up https://192.0.2.10:3000 --pin sha256:5f0c...
      sudo coderctl up https://coder.example.com --ca-file /etc/ssl/company.pem
      sudo coderctl up http://192.0.2.10:3000 --insecure
      sudo coderctl up
      sudo coderctl up --accept-inbound 22
    """
    session = None if url is None else session_at(_server(url, pin, ca_file, insecure), token_file)
    with ControlClient(socket) as client:
        params = UpParams(
            url=session.url if session else None,
            token=session.token if session else None,
            name=name,
            accept_inbound=accept_inbound,
        )
        call = client.start(UP, params, patience=PATIENCE)
        for progress in call:
            note(f"{progress.text}...")
    if session is not None:
        save_session(session)
    _welcome(call.result)
    return Exit.DONE


def _server(url: str, pin: str | None, ca_file: Path | None, insecure: bool) -> ServerUrl:
    path = None if ca_file is None else str(ca_file.absolute())
    return trusted_url(url, pin=pin, ca_file=path, insecure=insecure)


def _welcome(result: UpResult) -> None:
    say(f"Joined {result.url} as {result.name}, {result.address}")


def down(socket: Socket = SOCKET) -> int:
    """Leave the network but keep this machine enrolled: ``coderctl up`` joins again.

    Examples:
      sudo coderctl down
    """
    with ControlClient(socket) as client:
        client.call(DOWN, DownParams(), patience=PATIENCE)
    say("Left the network")
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
    say("Signed out")
    return Exit.DONE
