"""Ends a process on SIGTERM or SIGINT within ``END_LIMIT`` seconds, even where its event loop hangs.

The handler of the first signal starts faulthandler's timer: a C thread that waits, writes each Python
thread's traceback to stderr (files, lines and functions, no values) and ends the process with status 1. The
timer outlives the loop, and therefore also bounds threads that do not return, destructors and the
interpreter's exit handlers.

CPython runs signal handlers in the main thread, between two bytecodes. The bound therefore covers an endless
loop in Python, a blocking system call, which the signal interrupts, and ``re``, which checks for signals. A C
function that neither returns nor checks for signals is not covered: there systemd kills the process after
``TimeoutStopSec=``, or when the watchdog's time is over.
"""

import faulthandler
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TextIO

import trio

END_LIMIT = 9.0
"""Seconds from the first signal to the process's end at the latest.

A server's clean end needs six, five of them for open requests; systemd kills after ten (``TimeoutStopSec=``).
"""
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ending_signals(*others: signal.Signals) -> Iterator[AsyncIterator[int]]:
    """Yields an iterator of SIGTERM, SIGINT and ``others``; one of the first two bounds the process's life.

    Enables faulthandler, if it is not, so that the SIGABRT of systemd's watchdog leaves tracebacks in the
    log.

    Args:
        others: more signals to receive; these start no timer.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable(_stderr())  # systemd's watchdog sends SIGABRT: then the log shows where it was
    bound = _Bound()
    with trio.open_signal_receiver(*_ENDING, *others) as signals:
        for number in _ENDING:
            signal.signal(number, bound.before(signal.getsignal(number)))
        yield signals


class _Bound:
    """Starter of the end timer, at the first signal only: another one does not extend the process's life."""

    def __init__(self) -> None:
        self._is_set = False

    def before(self, handler: Any) -> Callable[[int, FrameType | None], None]:
        """Returns a signal handler that starts the timer if it is not running, then calls ``handler``."""

        def handle(number: int, frame: FrameType | None) -> None:
            if not self._is_set:
                self._is_set = True
                faulthandler.dump_traceback_later(END_LIMIT, exit=True, file=_stderr())
            handler(number, frame)

        return handle


def _stderr() -> TextIO:
    """Returns stderr, or a file on /dev/null where stderr has no descriptor, which faulthandler needs."""
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return _nowhere()
    return sys.stderr


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")
