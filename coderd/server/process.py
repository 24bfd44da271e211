"""``coderd server`` and ``coderd derp`` as processes: signals, systemd, and what the first admin reads."""

import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

import structlog
import trio

from coderd.config.io.log import configure_logging
from coderd.config.relay import RelayConfig
from coderd.config.server import ServerConfig
from coderd.config.url import PIN_PREFIX
from coderd.model.errors import UserError, first_user_error
from coderd.process.ending import ending_signals
from coderd.process.supervisor import supervised
from coderd.server.relay.run import RelayStarted, run_relay
from coderd.server.reloads import Reloads
from coderd.server.run import Started, run_server

GARBAGE_THRESHOLDS = (10_000, 5, 10)
"""Thresholds of Python's garbage collector (``gc.set_threshold``).

With Python's own 700, thousands of idle connections pass the threshold all the time, so that their objects
are promoted to the oldest generation, which is then searched again and again: a second each time with 5,000
nodes.
"""

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

log = structlog.get_logger(__name__)


class Service(Protocol[S_co]):
    """Service that runs until ``stop`` and reloads on request."""

    async def __call__(
        self, *, stop: trio.Event, reloads: Reloads, task_status: trio.TaskStatus[S_co]
    ) -> None:
        """Runs the service; starts ``task_status`` when it serves."""


def serve(config: ServerConfig) -> None:
    """Runs the server until it is stopped. Raises UserError if it cannot start."""
    _run(partial(run_server, config), partial(_announce, config))


def serve_relay(config: RelayConfig) -> None:
    """Runs a standalone relay until it is stopped. Raises UserError if it cannot start."""
    _run(partial(run_relay, config), _announce_relay)


def _run(service: Service[S], announce: Callable[[S], None]) -> None:
    """Runs a service until SIGTERM or SIGINT, then ends it cleanly; SIGHUP reloads. Raises UserError."""
    os.umask(0o077)
    _allow_many_connections()
    _collect_garbage_seldom()
    configure_logging()
    error: UserError | None = None
    try:
        trio.run(_serve, service, announce)
    except* UserError as group:
        error = first_user_error(group)
    if error is not None:
        raise error


async def _serve(service: Service[S], announce: Callable[[S], None]) -> None:
    stop, reloads = trio.Event(), Reloads()

    async def run(task_status: trio.TaskStatus[S]) -> None:
        await service(stop=stop, reloads=reloads, task_status=task_status)

    with ending_signals(signal.SIGHUP) as signals:
        async with supervised() as supervisor, trio.open_nursery() as nursery:
            started: S = await nursery.start(run)
            announce(started)
            supervisor.ready()
            async for number in signals:
                if number == signal.SIGHUP:
                    log.info("server_reloading")
                    reloads.ask()
                    continue
                log.info("server_stopping", signal=signal.Signals(number).name)
                supervisor.stopping()
                stop.set()
                break


def _allow_many_connections() -> None:
    """Raises the soft limit of open files to the hard one; the usual 1024 would serve some 500 nodes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_garbage_seldom() -> None:
    """Makes garbage collection rare and exempts the program's own objects.

    A process with thousands of connections has a million live objects, which each collection would examine.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _announce(config: ServerConfig, started: Started) -> None:
    """Prints the pin, and at the first start the first administrator's token.

    The token itself goes only to a terminal: any other output may be a log.
    """
    flags = f" --pin {PIN_PREFIX}{started.pin}" if started.pin else ""
    if flags:
        print(f"This server made its own TLS certificate. To join it, add to the command:{flags}")
        sys.stdout.flush()
    if not config.access_url.may_carry_tokens:
        flags = " --insecure"
        log.warning(
            "access_url_not_encrypted",
            url=str(config.access_url),
            hint="give an https URL; without certificates the server makes its own",
        )
    if started.admin_token_file is None:
        return
    path = started.admin_token_file
    print(f"The first administrator is admin; the session token is in {path}.")
    print(f"It also signs in at {config.access_url}/.")
    if sys.stdout.isatty():
        print(f"It is shown only once:\n\n    {path.read_text('ascii').strip()}\n")
    print("On your own machine, with `coderd run` running, paste:\n")
    print(f"    ssh root@{config.access_url.host} cat {path} | sudo coderctl up {config.access_url}{flags}\n")
    sys.stdout.flush()


def _announce_relay(started: RelayStarted) -> None:
    """Prints the relay's region, for pasting into a DERP map."""
    print("This relay as a region of a DERP map:\n")
    print(json.dumps(started.region, indent=2))
    sys.stdout.flush()
