"""``coderd derp``: a relay alone."""

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from coderd.cli import tls_options as tls
from coderd.model.errors import Exit


def derp(
    access_url: Annotated[
        str | None, typer.Option(help="Where clients reach this relay.  [default: http, this host's name]")
    ] = None,
    verify_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Serve those whom a server knows: https://SERVER/derp/verify."),
    ] = None,
    allow_any_client: Annotated[
        bool | None, typer.Option("--allow-any-client", help="Serve everybody who comes.")
    ] = None,
    http_address: Annotated[
        str | None, typer.Option(metavar="IP:PORT", help="Where it listens.  [default: the URL's port]")
    ] = None,
    stun_address: Annotated[
        str | None,
        typer.Option(help="Where it answers STUN: addresses with commas, or off.  [default: :3478]"),
    ] = None,
    state_dir: Annotated[
        str | None, typer.Option(help="Its key and certificate.  [default: /var/lib/coderd-derp]")
    ] = None,
    region_id: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Its region in the map that it prints.  [default: 1]")
    ] = None,
    region_code: Annotated[
        str | None, typer.Option(metavar="CODE", help="The region's short name.  [default: derp]")
    ] = None,
    tls_enable: tls.TlsEnable = None,
    tls_address: tls.TlsAddress = None,
    tls_cert_file: tls.TlsCertFile = None,
    tls_key_file: tls.TlsKeyFile = None,
    tls_min_version: tls.TlsMinVersion = None,
    config: Annotated[Path | None, typer.Option(help="By default /etc/coderd/derp.toml.")] = None,
) -> int:
    """Run a relay alone, for a region far from the server.

    It prints itself as a region for the server's --derp-config-path. A client that the verify URL does not clearly allow is
    refused, also while nothing answers there.

    Examples:
      coderd derp --access-url https://derp.example.com --verify-url https://coder.example.com/derp/verify
      coderd derp --access-url http://192.0.2.20:3340 --verify-url http://192.0.2.10:3000/derp/verify
      coderd derp --access-url https://derp.example.com --tls-cert-file c.pem --tls-key-file k.pem --allow-any-client
    """
    from coderd.config.io import read_config_file
    from coderd.config.relay import DEFAULT_FILE, parse_relay_config
    from coderd.server.process import serve_relay

    flags = {
        "access_url": access_url,
        "verify_url": verify_url,
        "allow_any_client": None if allow_any_client is None else str(allow_any_client).lower(),
        "http_address": http_address,
        "stun_address": stun_address,
        "state_dir": state_dir,
        "region_id": region_id,
        "region_code": region_code,
        **tls.settings(tls_enable, tls_address, tls_cert_file, tls_key_file, tls_min_version),
    }
    path = config or DEFAULT_FILE
    text = read_config_file(path, is_required=config is not None)
    serve_relay(parse_relay_config(flags, os.environ, text, str(path), host_name=socket.gethostname()))
    return Exit.DONE
