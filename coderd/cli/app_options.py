"""``coderd server``'s options about web apps."""

from typing import Annotated, TypeAlias

import typer

WildcardAccessUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="*.DOMAIN",
        help="Web apps have hosts of their own, as in *.apps.example.com. Environment: CODER_WILDCARD_ACCESS_URL.",
    ),
]
DisablePathApps: TypeAlias = Annotated[
    bool | None, typer.Option("--disable-path-apps", help="No web apps at paths of the access URL.")
]
TrustPathApps: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--dangerous-trust-path-apps",
        help="Web apps at paths of the access URL may act as the server's own pages in their visitor's browser.",
    ),
]


def settings(
    wildcard_access_url: str | None, disable_path_apps: bool | None, trust_path_apps: bool | None
) -> dict[str, str | None]:
    """The flags by setting name."""
    return {
        "wildcard_access_url": wildcard_access_url,
        "disable_path_apps": None if disable_path_apps is None else str(disable_path_apps).lower(),
        "dangerous_trust_path_apps": None if trust_path_apps is None else str(trust_path_apps).lower(),
    }
