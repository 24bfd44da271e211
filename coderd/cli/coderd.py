"""``coderd``: runs things. Says which there are; what they need is imported only when they run."""

import os
from pathlib import Path
from typing import Annotated

import typer

from coderd.cli import app_options as web
from coderd.cli import relay_options as relay
from coderd.cli import tls_options as tls
from coderd.cli.apps import add, new_app
from coderd.cli.derp import derp
from coderd.cli.shell import run
from coderd.cli.wireguard import wireguard
from coderd.model.errors import Exit

HELP = """Run a server, or a node: a user's machine or a workspace; or a plain WireGuard.

Start with:
  coderd server --access-url https://192.0.2.10:3000
  sudo coderd run
"""


def server(
    access_url: Annotated[
        str | None, typer.Option(help="Where everybody reaches this server. Environment: CODER_ACCESS_URL.")
    ] = None,
    http_address: Annotated[
        str | None, typer.Option(help="Where it listens; by default [::] and the access URL's port.")
    ] = None,
    stun_address: Annotated[
        str | None, typer.Option(help="Where it answers STUN: addresses with commas, or off.")
    ] = None,
    state_dir: Annotated[str | None, typer.Option(help="Database, keys and the first admin's token.")] = None,
    tls_enable: tls.TlsEnable = None,
    tls_address: tls.TlsAddress = None,
    tls_cert_file: tls.TlsCertFile = None,
    tls_key_file: tls.TlsKeyFile = None,
    tls_min_version: tls.TlsMinVersion = None,
    derp_config_url: relay.DerpConfigUrl = None,
    derp_config_path: relay.DerpConfigPath = None,
    derp_server_enable: relay.DerpServerEnable = None,
    derp_server_region_id: relay.DerpServerRegionId = None,
    derp_server_region_code: relay.DerpServerRegionCode = None,
    derp_server_region_name: relay.DerpServerRegionName = None,
    derp_server_stun_addresses: relay.DerpServerStunAddresses = None,
    derp_server_client_rate: relay.DerpServerClientRate = None,
    derp_force_websockets: relay.DerpForceWebsockets = None,
    block_direct_connections: relay.BlockDirectConnections = None,
    wildcard_access_url: web.WildcardAccessUrl = None,
    disable_path_apps: web.DisablePathApps = None,
    dangerous_trust_path_apps: web.TrustPathApps = None,
    config: Annotated[Path | None, typer.Option(help="By default /etc/coderd/server.toml.")] = None,
) -> int:
    """Run the server: coordination, relay and API on one port, and STUN.

    The first start makes an administrator and says how to sign in.

    Examples:
      coderd server --access-url https://192.0.2.10:3000
      coderd server --access-url https://coder.example.com --tls-cert-file chain.pem --tls-key-file key.pem
      coderd server --access-url https://coder.example.com --http-address [::1]:3000   (a proxy does TLS)
      coderd server --access-url https://192.0.2.10:3000 --derp-config-path /etc/coderd/derpmap.json
      coderd server --access-url https://coder.example.com --wildcard-access-url '*.apps.example.com'
    """
    from coderd.config.io import read_config_file
    from coderd.config.server import DEFAULT_FILE, parse_server_config
    from coderd.server.process import serve

    flags = {
        "access_url": access_url,
        "http_address": http_address,
        "stun_address": stun_address,
        "state_dir": state_dir,
        **tls.settings(tls_enable, tls_address, tls_cert_file, tls_key_file, tls_min_version),
        "derp_config_url": derp_config_url,
        "derp_config_path": derp_config_path,
        "derp_server_enable": relay.as_text(derp_server_enable),
        "derp_server_region_id": derp_server_region_id,
        "derp_server_region_code": derp_server_region_code,
        "derp_server_region_name": derp_server_region_name,
        "derp_server_stun_addresses": derp_server_stun_addresses,
        "derp_server_client_rate": derp_server_client_rate,
        "derp_force_websockets": relay.as_text(derp_force_websockets),
        "block_direct_connections": relay.as_text(block_direct_connections),
        **web.settings(wildcard_access_url, disable_path_apps, dangerous_trust_path_apps),
    }
    path = config or DEFAULT_FILE
    serve(
        parse_server_config(
            flags, os.environ, read_config_file(path, is_required=config is not None), str(path)
        )
    )
    return Exit.DONE


def run_node(
    interface: Annotated[str | None, typer.Option(help="The TUN device.  [default: coder0]")] = None,
    socket: Annotated[
        str | None, typer.Option(help="The control socket.  [default: /run/coderd/coderd.sock]")
    ] = None,
    state_dir: Annotated[
        str | None, typer.Option(help="Keys and tokens.  [default: /var/lib/coderd]")
    ] = None,
    mtu: Annotated[str | None, typer.Option(help="The tunnel's MTU.  [default: 1280]")] = None,
    listen_port: Annotated[
        str | None, typer.Option(help="The UDP port.  [default: 41641, any other where that is taken]")
    ] = None,
    birthday: Annotated[
        bool | None,
        typer.Option(
            "--birthday/--no-birthday",
            help="Search for random ports of NATs, by hundreds of sockets and pings; both ends need it.  [default: no]",
        ),
    ] = None,
    access_url: Annotated[
        str | None, typer.Option(help="The server that a workspace joins. Environment: CODER_AGENT_URL.")
    ] = None,
    pin: Annotated[
        str | None,
        typer.Option(
            metavar="sha256:HEX",
            help="The SHA-256 of the server's own certificate, as it prints it. Environment: CODERD_SERVER_PIN.",
        ),
    ] = None,
    ca_file: Annotated[
        str | None,
        typer.Option(
            metavar="PEM",
            help="The only authorities that may vouch for the server. Environment: CODERD_SERVER_CA_FILE.",
        ),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option(
            "--insecure",
            help="Let the token go to an http server for everybody on the way to read. Environment: CODERD_INSECURE.",
        ),
    ] = None,
    token_file: Annotated[
        str | None, typer.Option(metavar="PATH|-", help="The workspace's token: a file, or - for stdin.")
    ] = None,
    operator: Annotated[
        str | None, typer.Option(metavar="USER", help="Who may manage this node besides root.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="By default /etc/coderd/coderd.toml.")] = None,
) -> int:
    """Run this machine's node.

    A user's machine waits for: sudo coderctl up https://SERVER:3000. A workspace joins unattended with --access-url and
    --token-file, and tries for ever while the server cannot be reached; a refused token ends it with 4.

    Examples:
      sudo coderd run
      sudo coderd run --access-url https://coder.example.com --token-file /etc/coderd/token
      sudo coderd run --access-url https://192.0.2.10:3000 --pin sha256:5f0c... --token-file /etc/coderd/token
    """
    from coderd.cli.node_config import DEFAULT_FILE, parse_node_config
    from coderd.config.io import read_config_file
    from coderd.daemon.process import run_node as run_daemon

    flags = {
        "interface": interface,
        "socket": socket,
        "state_dir": state_dir,
        "mtu": mtu,
        "listen_port": listen_port,
        "birthday": None if birthday is None else str(birthday).lower(),
        "access_url": access_url,
        "pin": pin,
        "ca_file": ca_file,
        "insecure": "true" if insecure else None,
        "token_file": token_file,
        "operator": operator,
    }
    path = config or DEFAULT_FILE
    run_daemon(
        parse_node_config(
            flags, os.environ, read_config_file(path, is_required=config is not None), str(path)
        )
    )
    return Exit.DONE


def build_app() -> typer.Typer:
    """The whole of ``coderd``."""
    app = new_app(HELP)
    add(app, "server", server, "Coordination, relay, STUN and API.", cls=relay.ServerCommand)
    add(app, "run", run_node, "This machine's node: a user's or a workspace's.")
    add(app, "derp", derp, "A relay alone, for another region.")
    add(app, "wireguard", wireguard, "A plain WireGuard, for wg and wg-quick.")
    return app


def main() -> None:
    """The entry point."""
    run(build_app(), "coderd")


if __name__ == "__main__":
    main()
