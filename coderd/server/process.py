"""``coderd server`` as a process: signals, systemd, and the few lines that the first admin reads."""

import os
import resource
import signal
import sys

import sdnotify
import structlog
import trio

from coderd.config.io import configure_logging
from coderd.config.server import ServerConfig
from coderd.model.errors import UserError
from coderd.server.reloads import Reloads
from coderd.server.run import Started, run_server

log = structlog.get_logger(__name__)


def serve(config: ServerConfig) -> None:
    """Serves until SIGTERM or SIGINT, then ends cleanly; SIGHUP has it read anew what may have changed.

    Raises UserError if the server cannot start.
    """
    os.umask(0o077)
    _allow_many_connections()
    configure_logging()
    error: UserError | None = None
    try:
        trio.run(_serve, config)
    except* UserError as group:
        error = _first(group)
    if error is not None:
        raise error


async def _serve(config: ServerConfig) -> None:
    stop, reloads = trio.Event(), Reloads()

    async def run(task_status: trio.TaskStatus[Started]) -> None:
        await run_server(config, stop=stop, reloads=reloads, task_status=task_status)

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            started: Started = await nursery.start(run)
            _announce(config, started)
            notifier = sdnotify.SystemdNotifier()
            notifier.notify("READY=1")
            async for number in signals:
                if number == signal.SIGHUP:
                    log.info("server_reloading")
                    reloads.ask()
                    continue
                log.info("server_stopping", signal=signal.Signals(number).name)
                notifier.notify("STOPPING=1")
                stop.set()
                break


def _allow_many_connections() -> None:
    """The usual soft limit of 1024 files would end at some five hundred nodes; what we may have, we take."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _announce(config: ServerConfig, started: Started) -> None:
    """What the very first start says. The token itself goes to a terminal only: anything else may be a log."""
    if started.admin_token_file is None:
        return
    path = started.admin_token_file
    print(f"The first administrator is admin; the session token is in {path}.")
    if sys.stdout.isatty():
        print(f"It is shown here once:\n\n    {path.read_text('ascii').strip()}\n")
    print("On your own machine, with `coderd run` running, paste:\n")
    print(f"    ssh root@{config.access_url.host} cat {path} | sudo coderctl up {config.access_url}\n")
    sys.stdout.flush()


def _first(group: BaseExceptionGroup[UserError]) -> UserError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
