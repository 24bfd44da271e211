"""The options about TLS that ``coderd server`` and ``coderd derp`` share, named as Coder names them."""

from typing import Annotated, TypeAlias

import typer

TlsEnable: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--tls-enable/--no-tls-enable",
        help="Speak TLS; by default where files are given, or the URL is https and no --http-address is.",
    ),
]
TlsAddress: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="IP:PORT", help="Where TLS is spoken, if besides plain HTTP at --http-address."),
]
TlsCertFile: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PEM", help="Certificate and its chain; may repeat. Without one the server makes its own."
    ),
]
TlsKeyFile: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="PEM", help="Its private key, in the same order.")
]
TlsMinVersion: TypeAlias = Annotated[
    str | None, typer.Option(metavar="tls12|tls13", help="The oldest version.  [default: tls12]")
]


def settings(
    enable: bool | None,
    address: str | None,
    certificates: list[str] | None,
    keys: list[str] | None,
    min_version: str | None,
) -> dict[str, str | None]:
    """All five as their settings' texts."""
    return {
        "tls_enable": None if enable is None else str(enable).lower(),
        "tls_address": address,
        "tls_cert_file": ",".join(certificates) if certificates else None,
        "tls_key_file": ",".join(keys) if keys else None,
        "tls_min_version": min_version,
    }
