"""``coderd server``'s options about how much one user may have."""

from typing import Annotated, TypeAlias

import typer

MaxWorkspaces: TypeAlias = Annotated[
    str | None, typer.Option(metavar="N", help="Workspaces of one user.  [default: 1000]")
]
MaxDevices: TypeAlias = Annotated[
    str | None, typer.Option(metavar="N", help="Devices of one user.  [default: 100]")
]
MaxTokens: TypeAlias = Annotated[
    str | None, typer.Option(metavar="N", help="Sessions and join keys of one user.  [default: 500]")
]
MaxApps: TypeAlias = Annotated[
    str | None, typer.Option(metavar="N", help="Web apps that one user has set.  [default: 1000]")
]
