"""``coderd server``'s options about relays, and the one that may stand without a value."""

from typing import Annotated, TypeAlias

import typer
from typer.core import TyperGroup

from coderd.config.derp import DEFAULT_MAP, MAP_URL

DerpConfigUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="[URL]",
        help="A map of further relays, fetched every 10 minutes; without a value Tailscale's published map.",
    ),
]
DerpConfigPath: TypeAlias = Annotated[
    str | None, typer.Option(metavar="FILE", help="The same from a file, read again whenever it changes.")
]
DerpServerEnable: TypeAlias = Annotated[
    bool | None, typer.Option("--derp-server-enable/--no-derp-server-enable", help="Relay here.")
]
DerpServerRegionId: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="This relay's number in the map.  [default: 999]")
]
DerpServerRegionCode: TypeAlias = Annotated[
    str | None, typer.Option(metavar="CODE", help="Its short name.  [default: coder]")
]
DerpServerRegionName: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Its long name.  [default: Coder Embedded Relay]")
]
DerpServerStunAddresses: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT,...",
        help="Further STUN servers, or: disable, for none at all.  [default: this server's own]",
    ),
]
DerpServerClientRate: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="BYTES", help="What one node may send through this relay each second.  [default: any]"
    ),
]
DerpForceWebsockets: TypeAlias = Annotated[
    bool | None, typer.Option("--derp-force-websockets", help="Nodes reach relays by WebSocket at once.")
]
BlockDirectConnections: TypeAlias = Annotated[
    bool | None, typer.Option("--block-direct-connections", help="All traffic goes by relay.")
]


def as_text(flag: bool | None) -> str | None:
    """A switch as its setting's text; None where it was not given."""
    return None if flag is None else str(flag).lower()


class ServerGroup(TyperGroup):
    """Takes ``--derp-config-url`` without a value, which typer's parser cannot."""

    # typer's name for the class that is passed here is private, and a base of the public one.
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Names the default where the value is missing."""
        return super().parse_args(ctx, with_bare_value(args, MAP_URL.flag, DEFAULT_MAP))


def with_bare_value(arguments: list[str], flag: str, default: str) -> list[str]:
    """The arguments, with ``flag=default`` wherever ``flag`` stands alone: last, or before another option."""
    found: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=False):
        is_bare = argument == flag and following.startswith("-")
        found.append(f"{flag}={default}" if is_bare else argument)
    return found
