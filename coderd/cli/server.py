"""``coderd server``: runs the server, makes or restores a backup of its state, or recovers a user."""

import os
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from coderd.cli.say import note, say
from coderd.cli.settings import CONFIG_HELP, BareValues, Flags, option, takes
from coderd.cli.typer_app import CONTEXT, add, help_text
from coderd.config.lifetimes import LifetimeOptions
from coderd.config.server import (
    DEFAULT_FILE,
    SERVER_SETTINGS,
    STATE_DIR,
    parse_server_config,
    parse_server_lifetimes,
    parse_server_state_dir,
)
from coderd.model.errors import Exit, UserError

StateDir: TypeAlias = Annotated[str | None, option(STATE_DIR)]
Config: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="PATH", help=CONFIG_HELP.format(DEFAULT_FILE))
]
Show: TypeAlias = Annotated[bool, typer.Option("--show", help="Show the token at this terminal, too.")]
BackupFile: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


class ServerGroup(BareValues):
    """``coderd server``, whose ``--derp-config-url`` may stand without a value."""

    settings = SERVER_SETTINGS


def server_app() -> typer.Typer:
    """Returns ``coderd server`` with its commands."""
    app = typer.Typer(
        cls=ServerGroup,
        invoke_without_command=True,
        help=help_text(server.__doc__ or ""),
        add_completion=False,
        rich_markup_mode=None,
        context_settings=dict(CONTEXT),
        subcommand_metavar="[backup|restore|create-admin|reset-user]",
    )
    app.callback()(server)
    add(app, "backup", backup, "Write the state of a server to a file while it runs.")
    add(app, "create-admin", create_admin, "Create an owner, on the server's machine.")
    add(app, "reset-user", reset_user, "Give a user who has lost their token a new one.")
    add(app, "restore", restore, "Replace a server's state by a backup.")
    return app


@takes(SERVER_SETTINGS, DEFAULT_FILE)
def server(context: typer.Context, flags: Flags, config: Path | None) -> int:
    """Run the server: coordination, relay and API on one port, and STUN.

    The first start creates an administrator and says how to sign in.

    Examples:
      coderd server --access-url https://192.0.2.10:3000
      coderd server --access-url https://coder.example.com --tls-cert-file chain.pem --tls-key-file key.pem
      coderd server --access-url https://coder.example.com --http-address [::1]:3000   (a proxy does TLS)
      coderd server --access-url https://192.0.2.10:3000 --derp-config-path /etc/coderd/derpmap.json
      coderd server --access-url https://coder.example.com --wildcard-access-url '*.apps.example.com'
    """
    if context.invoked_subcommand is not None:
        context.obj = (flags["state_dir"], config)
        return Exit.DONE
    from coderd.server.process import serve

    serve(parse_server_config(flags, os.environ, *_read_file(config)))
    return Exit.DONE


def backup(
    context: typer.Context, file: BackupFile, state_dir: StateDir = None, config: Config = None
) -> int:
    """Write the whole state of a server to one file, mode 0600, while the server runs.

    It holds private keys: anyone who has it can impersonate this server. The files of --tls-cert-file are not
    in it.

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
    force: Annotated[bool, typer.Option("--force", help="Replace the state that exists.")] = False,
) -> int:
    """Replace the state of a server that does not run by a backup.

    Nodes, users and tokens are then those of the backup; revoke again what was revoked since.

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
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The user's name: a DNS label.")
    ] = "admin",
    show: Show = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> int:
    """Create an owner, a user with every right, on the server's machine, whether the server runs or not.

    The token to sign in with goes into a file, mode 0600, in the state directory; with --show, to the
    terminal, too.

    Examples:
      sudo coderd server create-admin --name root
    """
    from coderd.server.recovery import create_admin as create

    _check_terminal(show)
    done = create(_find_state_dir(context, state_dir, config), _find_lifetimes(context, config), name)
    return _tell_recovered(done.name, done.token, done.token_file, show)


def reset_user(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user.")],
    with_nodes: Annotated[
        bool, typer.Option("--with-nodes", help="Revoke the tokens of their machines, too.")
    ] = False,
    show: Show = False,
    state_dir: StateDir = None,
    config: Config = None,
) -> int:
    """Revoke all sessions and join keys of a user, and create a new token to sign in with.

    The server may run meanwhile. Their machines stay connected unless --with-nodes revokes their tokens, too:
    a server that runs disconnects them within two seconds.

    Examples:
      sudo coderd server reset-user ann
      sudo coderd server reset-user ann --with-nodes --show
    """
    from coderd.server.recovery import reset_user as reset

    _check_terminal(show)
    found = _find_state_dir(context, state_dir, config), _find_lifetimes(context, config)
    done = reset(*found, name, with_nodes=with_nodes)
    note(f"Revoked {done.n_ended} tokens of {name}.")
    return _tell_recovered(done.name, done.token, done.token_file, show)


def _check_terminal(show: bool) -> None:
    """Raises UserError where a token would be shown to anything but a terminal."""
    if show and not sys.stdout.isatty():
        raise UserError(
            "a token is shown only at a terminal",
            exit_code=Exit.USAGE,
            hint="Without --show it is in a file that only root can read.",
        )


def _tell_recovered(name: str, token: str, token_file: Path, show: bool) -> int:
    note(f"{name} can sign in with the token in {token_file}. Remove the file afterwards.")
    if show:
        say(token)
    return Exit.DONE


def _find_lifetimes(context: typer.Context, config: Path | None) -> LifetimeOptions:
    return parse_server_lifetimes(os.environ, *_read_file(config or context.obj[1]))


def _find_state_dir(context: typer.Context, state_dir: str | None, config: Path | None) -> Path:
    """Returns it from the options behind the command, or else from those before it."""
    given_state_dir, given_config = context.obj
    flags = {STATE_DIR.name: state_dir or given_state_dir}
    return parse_server_state_dir(flags, os.environ, *_read_file(config or given_config))


def _read_file(config: Path | None) -> tuple[str, str]:
    """Returns the configuration file's text and its name."""
    from coderd.config.io.file import read_config_file

    path = config or DEFAULT_FILE
    return read_config_file(path, is_required=config is not None), str(path)
