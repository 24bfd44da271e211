"""``coderd``: runs things. Says which there are; what they need is imported only when they run."""

import os
from pathlib import Path
from typing import Annotated

import typer

from coderd.cli.derp import derp
from coderd.cli.options import TOKEN_ENVIRONMENT
from coderd.cli.server import server_app
from coderd.cli.shell import run
from coderd.cli.typer_app import add, new_app
from coderd.cli.wireguard import wireguard
from coderd.model.errors import Exit

HELP = """Run a server, or a node: a user's machine or a workspace; or a plain WireGuard.

Start with:
  coderd server --access-url https://192.0.2.10:3000
  sudo coderd run
"""


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
        str | None,
        typer.Option(
            metavar="PATH|-",
            help="The workspace's token: a file, or - for stdin. Environment: CODER_AGENT_TOKEN, which holds the token itself.",
        ),
    ] = None,
    operator: Annotated[
        str | None, typer.Option(metavar="USER", help="Who may manage this node besides root.")
    ] = None,
    local_users: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES|all",
            help="Which users of this machine may send into the tunnel at all, besides root.  [default: all]",
        ),
    ] = None,
    authorised_for: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long a workspace cut off from its server keeps its users; 0: for ever.  [default: 24h]",
        ),
    ] = None,
    terminal: Annotated[
        bool | None,
        typer.Option(
            "--terminal/--no-terminal", help="Offer terminals to a workspace's users.  [default: no]"
        ),
    ] = None,
    terminal_user: Annotated[
        str | None,
        typer.Option(metavar="USER", help="Whose shells they are.  [default: the operator]"),
    ] = None,
    terminal_login: Annotated[
        str | None,
        typer.Option(
            metavar="SOCKET", help="Where systemd starts shells as another user: see docs/terminal.md."
        ),
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
    from coderd.process.handed_on import take_from_environment

    token = take_from_environment(TOKEN_ENVIRONMENT)  # first, as this may begin the process anew
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
        "local_users": local_users,
        "authorised_for": authorised_for,
        "terminal": None if terminal is None else str(terminal).lower(),
        "terminal_user": terminal_user,
        "terminal_login": terminal_login,
    }
    path = config or DEFAULT_FILE
    environment = os.environ if token is None else {**os.environ, TOKEN_ENVIRONMENT: token}
    run_daemon(
        parse_node_config(
            flags, environment, read_config_file(path, is_required=config is not None), str(path)
        )
    )
    return Exit.DONE


def build_app() -> typer.Typer:
    """The whole of ``coderd``."""
    app = new_app(HELP)
    app.add_typer(server_app(), name="server", short_help="Coordination, relay, STUN and API.")
    add(app, "run", run_node, "This machine's node: a user's or a workspace's.")
    add(app, "derp", derp, "A relay alone, for another region.")
    add(app, "wireguard", wireguard, "A plain WireGuard, for wg and wg-quick.")
    return app


def main() -> None:
    """The entry point."""
    run(build_app(), "coderd")


if __name__ == "__main__":
    main()
