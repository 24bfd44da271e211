"""``coderd server``'s options about sharing workspaces."""

from typing import Annotated, TypeAlias

import typer

AcceptShares: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--accept-shares",
        help="Whom a workspace is offered to has accepted it by that: tells every user who else there is.",
    ),
]
MaxShares: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="N", help="Shares and offers that one user may have given.  [default: 500]"),
]


def settings(accept_shares: bool | None, max_shares: str | None) -> dict[str, str | None]:
    """The flags by setting name."""
    return {
        "accept_shares": None if accept_shares is None else str(accept_shares).lower(),
        "max_shares": max_shares,
    }
