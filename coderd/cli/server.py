"""``coderd server``: runs it; with a command behind it, makes or restores a backup of its state."""

import os
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from coderd.cli import app_options as web
from coderd.cli import lifetime_options as lifetimes
from coderd.cli import quota_options as quotas
from coderd.cli import relay_options as relay
from coderd.cli import sharing_options as sharing
from coderd.cli import tls_options as tls
from coderd.cli.say import note, say
from coderd.cli.typer_app import add, help_text
from coderd.config.lifetimes import LifetimeOptions
from coderd.model.errors import Exit, UserError

StateDir: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Database, keys and the first admin's token.  [default: /var/lib/coderd-server]"),
]
Config: TypeAlias = Annotated[Path | None, typer.Option(help="By default /etc/coderd/server.toml.")]
Show: TypeAlias = Annotated[bool, typer.Option("--show", help="Show the token at this terminal, too.")]
BackupFile: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE")]
ProxyTrustedOrigins: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="CIDR", help="Proxies that may say whose request they hand on; may repeat."),
]
ProxyTrustedHeaders: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="The headers in which they do.  [default: X-Forwarded-For]"),
]
PrometheusEnable: TypeAlias = Annotated[
    bool | None,
    typer.Option("--prometheus-enable", help="Serve metrics at 127.0.0.1:2112 without a token, too."),
]
PrometheusAddress: TypeAlias = Annotated[
    str | None, typer.Option(metavar="IP:PORT", help="The same at another address.")
]


def server_app() -> typer.Typer:
    """``coderd server`` with its commands."""
    app = typer.Typer(
        cls=relay.ServerGroup,
        invoke_without_command=True,
        help=help_text(server.__doc__ or ""),
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        subcommand_metavar="[backup|restore|create-admin|reset-user]",
    )
    app.callback()(server)
    add(app, "backup", backup, "Write the state of a server to a file while it runs.")
    add(app, "create-admin", create_admin, "Make an owner, on the server's machine.")
    add(app, "reset-user", reset_user, "Let somebody in anew who has lost their token.")
    add(app, "restore", restore, "Put such a file in the place of a server's state.")
    return app


def server(
    context: typer.Context,
    access_url: Annotated[
        str | None, typer.Option(help="Where everybody reaches this server. Environment: CODER_ACCESS_URL.")
    ] = None,
    http_address: Annotated[
        str | None, typer.Option(help="Where it listens; by default [::] and the access URL's port.")
    ] = None,
    stun_address: Annotated[
        str | None, typer.Option(help="Where it answers STUN: addresses with commas, or off.")
    ] = None,
    state_dir: StateDir = None,
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
    accept_shares: sharing.AcceptShares = None,
    max_shares: sharing.MaxShares = None,
    max_workspaces: quotas.MaxWorkspaces = None,
    max_devices: quotas.MaxDevices = None,
    max_tokens: quotas.MaxTokens = None,
    max_apps: quotas.MaxApps = None,
    session_lifetime: lifetimes.SessionLifetime = None,
    max_token_lifetime: lifetimes.MaxTokenLifetime = None,
    device_lifetime: lifetimes.DeviceLifetime = None,
    require_device_approval: lifetimes.RequireDeviceApproval = None,
    proxy_trusted_origins: ProxyTrustedOrigins = None,
    proxy_trusted_headers: ProxyTrustedHeaders = None,
    prometheus_enable: PrometheusEnable = None,
    prometheus_address: PrometheusAddress = None,
    config: Config = None,
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
    if context.invoked_subcommand is not None:
        context.obj = (state_dir, config)
        return Exit.DONE
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
        "proxy_trusted_origins": ",".join(proxy_trusted_origins) if proxy_trusted_origins else None,
        "proxy_trusted_headers": ",".join(proxy_trusted_headers) if proxy_trusted_headers else None,
        "prometheus_enable": relay.as_text(prometheus_enable),
        "prometheus_address": prometheus_address,
        **sharing.settings(accept_shares, max_shares),
        "max_workspaces": max_workspaces,
        "max_devices": max_devices,
        "max_tokens": max_tokens,
        "max_apps": max_apps,
        **lifetimes.settings(session_lifetime, max_token_lifetime, device_lifetime, require_device_approval),
        **web.settings(wildcard_access_url, disable_path_apps, dangerous_trust_path_apps),
    }
    path = config or DEFAULT_FILE
    serve(
        parse_server_config(
            flags, os.environ, read_config_file(path, is_required=config is not None), str(path)
        )
    )
    return Exit.DONE


def backup(
    context: typer.Context, file: BackupFile, state_dir: StateDir = None, config: Config = None
) -> int:
    """Write the whole state of a server to one file, mode 0600, while the server runs.

    It holds private keys: whoever has it can be this server. Certificates that --tls-cert-file names are not in it.

    Examples:
      sudo coderd server backup /var/backups/coderd-server.tar
    """
    from coderd.server.backup import make_backup

    make_backup(_find_state_dir(context, state_dir, config), file.absolute())
    note(f"Wrote {file}: keep it where only you can read it.")
    return Exit.DONE


def restore(
    context: typer.Context,
    file: BackupFile,
    state_dir: StateDir = None,
    config: Config = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the state that is there.")] = False,
) -> int:
    """Put a backup in the place of the state of a server that does not run.

    Nodes, users and tokens are then those of the backup; what was revoked since has to be revoked again.

    Examples:
      sudo coderd server restore /var/backups/coderd-server.tar
    """
    from coderd.server.backup import restore_backup

    found = _find_state_dir(context, state_dir, config)
    made_by = restore_backup(file.absolute(), found, force=force)
    note(f"Restored the state of coderd {made_by} to {found}.")
    return Exit.DONE


def create_admin(
    context: typer.Context,
    name: Annotated[str, typer.Option("--name", help="A DNS label.")] = "admin",
    show: Show = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> int:
    """Make a user who may do everything, on the server's machine, while the server runs or not.

    The token to sign in with goes into a file, mode 0600, in the state directory; with --show to the terminal, too.

    Examples:
      sudo coderd server create-admin --name root
    """
    from coderd.server.recovery import create_admin as create

    _check_terminal(show)
    done = create(_find_state_dir(context, state_dir, config), _find_lifetimes(context, config), name)
    return _tell_recovered(done.name, done.token, done.token_file, show)


def reset_user(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    with_nodes: Annotated[
        bool, typer.Option("--with-nodes", help="End the tokens of their machines, too.")
    ] = False,
    show: Show = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> int:
    """End all sessions and join keys of a user and make a new token to sign in with, while the server runs or not.

    Their machines stay connected, unless --with-nodes ends them: within two seconds where the server runs.

    Examples:
      sudo coderd server reset-user ann
      sudo coderd server reset-user ann --with-nodes --show
    """
    from coderd.server.recovery import reset_user as reset

    _check_terminal(show)
    found = _find_state_dir(context, state_dir, config), _find_lifetimes(context, config)
    done = reset(*found, name, with_nodes=with_nodes)
    note(f"Ended {done.n_ended} tokens of {name}.")
    return _tell_recovered(done.name, done.token, done.token_file, show)


def _check_terminal(show: bool) -> None:
    """Raises UserError where a token would be shown to something else than a person."""
    if show and not sys.stdout.isatty():
        raise UserError(
            "a token is shown at a terminal only",
            exit_code=Exit.USAGE,
            hint="Without --show it is in a file that root alone can read.",
        )


def _tell_recovered(name: str, token: str, token_file: Path, show: bool) -> int:
    note(f"{name} can sign in with the token in {token_file}: remove the file then.")
    if show:
        say(token)
    return Exit.DONE


def _find_lifetimes(context: typer.Context, config: Path | None) -> LifetimeOptions:
    from coderd.config.io import read_config_file
    from coderd.config.server import DEFAULT_FILE, parse_server_lifetimes

    config = config or context.obj[1]
    path = config or DEFAULT_FILE
    return parse_server_lifetimes(
        os.environ, read_config_file(path, is_required=config is not None), str(path)
    )


def _find_state_dir(context: typer.Context, state_dir: str | None, config: Path | None) -> Path:
    """Out of the options behind the command, or else those before it."""
    from coderd.config.io import read_config_file
    from coderd.config.server import DEFAULT_FILE, parse_server_state_dir

    given_state_dir, given_config = context.obj
    state_dir, config = state_dir or given_state_dir, config or given_config
    path = config or DEFAULT_FILE
    text = read_config_file(path, is_required=config is not None)
    return parse_server_state_dir({"state_dir": state_dir}, os.environ, text, str(path))
