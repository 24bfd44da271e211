"""Detaches a process into the background before there are threads or an event loop.

The command returns when its daemon is ready.
"""

import os
import sys
from collections.abc import Callable


def detach(*, keeps_output: bool) -> Callable[[], None]:
    """Goes on in a child process; the calling one exits with 0 when the child is ready, with 1 if it failed.

    Args:
        keeps_output: whether stdout and stderr stay open; else they are let go when ready, lest a pipeline
            wait for us.

    Returns: what to call when ready.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        has_begun = bool(os.read(reading, 1))
        os.waitpid(child, 0)
        os._exit(0 if has_begun else 1)
    os.close(reading)
    os.setsid()
    if os.fork():  # no leader of a session, so no terminal can become ours
        os._exit(0)
    os.chdir("/")

    def ready() -> None:
        _let_go((0,) if keeps_output else (0, 1, 2))
        os.write(writing, b"1")
        os.close(writing)

    return ready


def _let_go(descriptors: tuple[int, ...]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)
