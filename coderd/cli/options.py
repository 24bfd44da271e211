"""Options that several of coderctl's commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from coderd.daemon.config import DEFAULT_SOCKET

INSECURE = "CODERD_INSECURE"
"""The environment's name for ``--insecure``."""
TOKEN_ENVIRONMENT = "CODER_AGENT_TOKEN"
"""The workspace's token itself, as Coder's agents take it: for containers that have no better place for secrets."""

Socket: TypeAlias = Annotated[
    Path,
    typer.Option("--socket", envvar="CODERD_SOCKET", help="The daemon's control socket.", show_envvar=True),
]
SOCKET = DEFAULT_SOCKET

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON; its fields only ever grow.")]

Workspace: TypeAlias = Annotated[
    str, typer.Argument(metavar="WORKSPACE", help="A peer's name: dev is yours, another's is ann/dev.")
]

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="CODER_URL",
        help="The server, with #sha256:HEX behind it if it is pinned; by default the one that you signed in to.",
        show_envvar=True,
    ),
]

Pin: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--pin",
        metavar="sha256:HEX",
        envvar="CODERD_SERVER_PIN",
        help="The SHA-256 of the server's certificate, as the server prints it, where no authority vouches for it.",
        show_envvar=True,
    ),
]

CaFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="PEM",
        envvar="CODERD_SERVER_CA_FILE",
        help="Certificates of the only authorities that may vouch for the server: a company's own, say.",
        show_envvar=True,
    ),
]

Insecure: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--insecure",
        envvar=INSECURE,
        help="Let the token go to an http server for everybody on the way to read.",
        show_envvar=True,
    ),
]

TokenFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="PATH|-",
        help="A file with the token, or - for stdin. By default it is read from a pipe or asked for.",
    ),
]
