"""Options that several of coderctl's commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from coderd.config.environment import URL as URL_ENVIRONMENT
from coderd.config.node import CA_FILE, DEFAULT_SOCKET, INSECURE, PIN
from coderd.config.node import SOCKET as SOCKET_SETTING

SOCKET = DEFAULT_SOCKET
Socket: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--socket",
        metavar="PATH",
        envvar=SOCKET_SETTING.environment,
        help="The daemon's control socket.",
        show_envvar=True,
    ),
]

Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON. Its fields are stable: new ones may be added.")
]

Workspace: TypeAlias = Annotated[
    str, typer.Argument(metavar="WORKSPACE", help="A peer: dev is your own, ann/dev is ann's.")
]

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar=URL_ENVIRONMENT,
        help="The server, with #sha256:HEX behind it if it is pinned.  [default: where you are signed in]",
        show_envvar=True,
    ),
]

Pin: TypeAlias = Annotated[
    str | None,
    typer.Option(PIN.flag, metavar=PIN.metavar, envvar=PIN.environment, help=PIN.help, show_envvar=True),
]

CaFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        CA_FILE.flag, metavar=CA_FILE.metavar, envvar=CA_FILE.environment, help=CA_FILE.help, show_envvar=True
    ),
]

Insecure: TypeAlias = Annotated[
    bool, typer.Option(INSECURE.flag, envvar=INSECURE.environment, help=INSECURE.help, show_envvar=True)
]

TokenFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="PATH|-",
        help="A file with the token, or - for stdin.  [default: a pipe, or a prompt]",
    ),
]
