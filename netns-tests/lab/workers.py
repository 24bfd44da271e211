"""Processes that go through pieces of work, some at a time, and end with whoever set them to it.

Each piece gets a process of its own, whose signals and namespaces are nobody else's. It is the leader of its
own session, so that a terminal's ^C reaches us alone, and we end it: by SIGTERM, which leaves every ``with``,
and by SIGKILL where that takes long. If we are killed ourselves, the kernel kills it.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import TypeVar

from lab.process import LabError
from lab.realm import signals_deferred

Item = TypeVar("Item")
Result = TypeVar("Result")

GRACE = 3.0
"""Seconds that a process has to leave its ``with``s."""

PR_SET_PDEATHSIG = 1


def in_processes(
    work: Callable[[Item], Iterable[Result]], items: Iterable[Item], *, jobs: int
) -> Generator[Result, None, None]:
    """What ``work`` yields for each item, as it comes.

    Closing the iterator ends all processes and starts no more.

    Args:
        work: called once for each item, in a process of its own.
        items: in the order in which they are begun.
        jobs: how many processes there are at a time.

    Raises:
        LabError: a process ended before its work did.
    """
    rest = list(items)
    running: dict[Connection, ForkProcess] = {}
    try:
        while rest or running:
            while rest and len(running) < jobs:
                with signals_deferred():
                    connection, process = _start(work, rest.pop(0))
                    running[connection] = process
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                try:
                    result = ready.recv()
                except EOFError:
                    _finish(running.pop(ready))
                    continue
                yield result
    finally:
        _end(running.values())


def _start(work: Callable[[Item], Iterable[Result]], item: Item) -> tuple[Connection, ForkProcess]:
    ours, its = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=_run, args=(work, item, its, os.getpid()))
    process.start()
    its.close()  # so that the only other end is the process's, and its end is an end of file
    return ours, process


def _run(work: Callable[[Item], Iterable[Result]], item: Item, results: Connection, parent: int) -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before we could ask to be told
        return
    for result in work(item):
        results.send(result)


def _finish(process: ForkProcess) -> None:
    process.join()
    if process.exitcode != 0:
        raise LabError(f"a worker of the laboratory ended {process.exitcode}")


def _end(processes: Iterable[ForkProcess]) -> None:
    left = list(processes)
    for process in left:
        process.terminate()
    for process in left:
        process.join(GRACE)
        if process.is_alive():
            process.kill()
            process.join()
