"""``coderd server``'s options about how long it lets in whom it has let in."""

from typing import Annotated, TypeAlias

import typer

SessionLifetime: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="How long a sign-in lasts, used or unused.  [default: 30d]"),
]
MaxTokenLifetime: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="How long a token may last that is made with one.  [default: 365d]"),
]
DeviceLifetime: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="After which a device must sign in again, or off.  [default: off]"),
]
RequireDeviceApproval: TypeAlias = Annotated[
    bool | None,
    typer.Option("--require-device-approval", help="New devices wait until an admin approves them."),
]


def settings(
    session: str | None, max_token: str | None, device: str | None, require_approval: bool | None
) -> dict[str, str | None]:
    """The flags by setting name."""
    return {
        "session_lifetime": session,
        "max_token_lifetime": max_token,
        "device_lifetime": device,
        "require_device_approval": None if require_approval is None else str(require_approval).lower(),
    }
