"""``coderd wireguard``, also as the program ``coderd-wireguard``.

The second name is there because ``wg-quick`` takes a program's name, no arguments.
"""

import os
from typing import Annotated

import typer

from coderd.cli.shell import run
from coderd.cli.typer_app import help_text, new_app
from coderd.cli.version import Version
from coderd.model.errors import Exit


def wireguard(
    interface: Annotated[str, typer.Argument(metavar="IFNAME", help="The interface to make, such as wg0.")],
    foreground: Annotated[
        bool,
        typer.Option(
            "-f", "--foreground", help="Stay in the foreground.  [env var: WG_PROCESS_FOREGROUND=1]"
        ),
    ] = False,
    version: Version = False,
) -> int:
    """Run a plain userspace WireGuard, for wg and wg-quick: a drop-in for wireguard-go.

    Makes the interface and returns once wg can configure it. It continues in the background until the
    interface is deleted, its socket in /var/run/wireguard is removed, or it gets SIGTERM. LOG_LEVEL=debug or
    error keeps its log on stderr.

    Examples:
      sudo coderd wireguard wg0 && sudo wg setconf wg0 wg0.conf
      sudo env WG_QUICK_USERSPACE_IMPLEMENTATION=coderd-wireguard wg-quick up wg0
    """
    from coderd.plain.io.run import run_wireguard

    run_wireguard(
        interface,
        in_foreground=foreground or os.environ.get("WG_PROCESS_FOREGROUND") == "1",
        log_level=os.environ.get("LOG_LEVEL", ""),
    )
    return Exit.DONE


def build_app() -> typer.Typer:
    """Returns ``coderd-wireguard``, a program of one command."""
    app = new_app(wireguard.__doc__ or "")
    app.command(help=help_text(wireguard.__doc__ or ""))(wireguard)
    return app


def main() -> None:
    """Runs ``coderd-wireguard`` on the process's arguments and ends the process."""
    run(build_app(), "coderd-wireguard")


if __name__ == "__main__":
    main()
