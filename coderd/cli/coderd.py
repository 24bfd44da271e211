"""``coderd``: runs a server, a node, a relay or a plain WireGuard.

What each needs is imported only when it runs.
"""

import os
from pathlib import Path

import typer

from coderd.cli.derp import derp
from coderd.cli.server import server_app
from coderd.cli.settings import Flags, takes
from coderd.cli.shell import run
from coderd.cli.typer_app import add, add_completion, program
from coderd.cli.wireguard import wireguard
from coderd.config.node import DEFAULT_FILE, NODE_SETTINGS, TOKEN_ENVIRONMENT
from coderd.model.errors import Exit

HELP = """Run a server, a node, a relay or a plain WireGuard. A node is a user's machine or a workspace.

Start with:
  coderd server --access-url https://192.0.2.10:3000
  sudo coderd run
"""


@takes(NODE_SETTINGS, DEFAULT_FILE)
def run_node(flags: Flags, config: Path | None) -> int:
    """Run this machine's node.

    A user's machine waits for: sudo coderctl up https://SERVER:3000. A workspace joins unattended with
    --access-url and --token-file, and keeps trying while the server cannot be reached; it exits with 4 if the
    server rejects the token.

    Examples:
      sudo coderd run
      sudo coderd run --access-url https://coder.example.com --token-file /etc/coderd/token
      sudo coderd run --access-url https://192.0.2.10:3000 --pin sha256:5f0c... --token-file /etc/coderd/token
    """
    from coderd.process.handed_on import take_from_environment

    token = take_from_environment(TOKEN_ENVIRONMENT)  # first, as this may begin the process anew
    from coderd.config.io.file import read_config_file
    from coderd.config.io.node import parse_node_config
    from coderd.daemon.process import run_node as run_daemon

    environment = os.environ if token is None else {**os.environ, TOKEN_ENVIRONMENT: token}
    text = read_config_file(config or DEFAULT_FILE, is_required=config is not None)
    run_daemon(parse_node_config(flags, environment, text, str(config or DEFAULT_FILE)))
    return Exit.DONE


def build_app() -> typer.Typer:
    """Returns ``coderd`` with all its commands."""
    app = program(HELP)
    app.add_typer(server_app(), name="server", short_help="Coordination, relay, STUN and API.")
    add(app, "run", run_node, "This machine's node: a user's or a workspace's.")
    add(app, "derp", derp, "A relay alone, for another region.")
    add(app, "wireguard", wireguard, "A plain WireGuard, for wg and wg-quick.")
    add_completion(app)
    return app


def main() -> None:
    """Runs ``coderd`` on the process's arguments and ends the process."""
    run(build_app(), "coderd")


if __name__ == "__main__":
    main()
