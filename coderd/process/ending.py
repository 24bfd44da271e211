"""The end of a process on SIGTERM or SIGINT: asked for in the loop, and certain after ``END_LIMIT`` whatever the loop does.

The signal's handler, which needs no loop, starts a timer of faulthandler's: a C thread that waits, writes where every Python
thread is to stderr (files, lines and functions, no values), and ends the process with status 1. It outlives the loop, so it
covers what comes after as well: threads that do not return, destructors, whatever runs at the interpreter's exit.

Python runs handlers between two bytecodes of the main thread. So a Python loop without end is covered, and a system call that
blocks, as the signal interrupts it, and ``re``, which looks for signals. Not covered is a C function that neither returns nor
looks: there only SIGKILL helps, which systemd sends when ``TimeoutStopSec=`` or the watchdog's patience is over.
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
"""Seconds from the first signal to the end. A server that ends cleanly needs six (its requests have five), and systemd kills after ten."""
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ending_signals(*others: signal.Signals) -> Iterator[AsyncIterator[int]]:
    """Within, SIGTERM, SIGINT and others come out of the iterator; and the first of the two bounds the process's life.

    Args:
        others: more signals to receive; these bound nothing.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable(_stderr())  # systemd's watchdog sends SIGABRT: then the log shows where it was
    bound = _Bound()
    with trio.open_signal_receiver(*_ENDING, *others) as signals:
        for number in _ENDING:
            signal.signal(number, bound.before(signal.getsignal(number)))
        yield signals


class _Bound:
    """Starts the timer once: whoever repeats the signal gains no time for the process."""

    def __init__(self) -> None:
        self._is_set = False

    def before(self, handler: Any) -> Callable[[int, FrameType | None], None]:
        """A handler that starts the timer, then does what the given one does."""

        def handle(number: int, frame: FrameType | None) -> None:
            if not self._is_set:
                self._is_set = True
                faulthandler.dump_traceback_later(END_LIMIT, exit=True, file=_stderr())
            handler(number, frame)

        return handle


def _stderr() -> TextIO:
    """A file with a descriptor, which faulthandler wants: stderr, or nowhere."""
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return _nowhere()
    return sys.stderr


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")
