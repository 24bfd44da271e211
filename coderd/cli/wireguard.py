"""``coderd wireguard``, and the same as one word, ``coderd-wireguard``, which is all that wg-quick has room for."""

import os
from typing import Annotated

import typer

import coderd
from coderd.cli.say import say
from coderd.cli.shell import run
from coderd.cli.typer_app import help_text, new_app
from coderd.model.errors import Exit


def _show_version(is_asked_for: bool) -> None:
    if is_asked_for:
        say(f"coderd {coderd.__version__}")
        raise typer.Exit


def wireguard(
    interface: Annotated[str, typer.Argument(metavar="IFNAME", help="The interface to make, such as wg0.")],
    foreground: Annotated[
        bool,
        typer.Option(
            "-f", "--foreground", help="Stay in the foreground. Environment: WG_PROCESS_FOREGROUND=1."
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Say which and end.")
    ] = False,
) -> int:
    """Run a plain userspace WireGuard, for wg and wg-quick: a drop-in for wireguard-go.

    Makes the interface, returns once wg can configure it, and goes on in the background until the interface is deleted, its
    socket in /var/run/wireguard is removed, or SIGTERM comes. LOG_LEVEL=debug or error keeps its log on stderr.

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


def main() -> None:
    """The entry point ``coderd-wireguard``."""
    app = new_app(wireguard.__doc__ or "")
    app.command(help=help_text(wireguard.__doc__ or ""))(wireguard)
    run(app, "coderd-wireguard")


if __name__ == "__main__":
    main()
