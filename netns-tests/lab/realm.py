"""One pid namespace for every process of a laboratory, and the ways into namespaces.

::

    us ══ pipe ══> unshare --kill-child ──> cat, pid 1 of the realm
     │                                      └─ its end is the end of every process below
     └── keepers of hosts, daemons, tools: our children, yet members of the realm

``setns`` with a pid namespace moves only the children to come. So a program is an ordinary child of ours,
with a pid that we can signal and wait for, and still dies with the realm.
"""

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from lab.process import LabError

CLONE_NEWNET = 0x40000000
CLONE_NEWPID = 0x20000000

DEFERRED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
"""Signals whose handlers may raise an exception in the midst of anything."""

CLOSE_TIMEOUT = 5.0
"""Seconds; the kernel ends a realm in milliseconds, unless a member of it was not reaped."""

_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int, kind: int) -> None:
    if _libc.setns(fd, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextmanager
def entered(namespace: str, kind: int) -> Iterator[None]:
    """Move this thread (or with CLONE_NEWPID, its children to come) into a namespace for a while.

    Args:
        namespace: a file such as ``/proc/123/ns/net``.
        kind: its CLONE_NEW* number.
    """
    own_name = "pid" if kind == CLONE_NEWPID else "net"
    own = os.open(f"/proc/thread-self/ns/{own_name}", os.O_RDONLY)
    try:
        other = os.open(namespace, os.O_RDONLY)
        try:
            _setns(other, kind)
        finally:
            os.close(other)
        try:
            yield
        finally:
            _setns(own, kind)
    finally:
        os.close(own)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Within, the handlers of Python wait.

    An interrupt between a fork and our noting of the child would lose it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    came: list[int] = []
    ours = {number: handler for number in DEFERRED if callable(handler := signal.getsignal(number))}
    for number in ours:
        signal.signal(number, lambda arrived, _: came.append(arrived))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)


class Realm:
    """The pid namespace of one laboratory. Leaving it kills whoever is still inside."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise LabError("network namespaces need root; run it with sudo")
        self._children: list[subprocess.Popen[bytes]] = []
        self._unshare = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._unshare.stdin is not None
        assert self._unshare.stdout is not None
        self._unshare.stdin.write(b"ready\n")
        self._unshare.stdin.flush()
        if self._unshare.stdout.readline() != b"ready\n":
            raise LabError(
                f"unshare ended {self._unshare.wait()}; the lab needs CAP_SYS_ADMIN and util-linux"
            )
        children = f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children"
        self.init = int(Path(children).read_text(encoding="ascii"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def spawn(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """`subprocess.Popen`, its child born into the realm."""
        with signals_deferred(), entered(f"/proc/{self.init}/ns/pid", CLONE_NEWPID):
            child = subprocess.Popen(argv, **options)
            self._children.append(child)
        return child

    def keep(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a process that holds namespaces until the realm closes.

        It has said ``ready`` when this returns.
        """
        keeper = self.spawn(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert keeper.stdout is not None
        said = keeper.stdout.readline()
        if said != b"ready\n":
            raise LabError(f"a host could not be made: {said.decode()}{keeper.stdout.read().decode()}")
        return keeper

    def close(self) -> None:
        """Kill everything inside.

        Our own children must be reaped, else the kernel holds the realm open for them.
        """
        assert self._unshare.stdin is not None
        self._unshare.stdin.close()
        for child in self._children:
            child.wait()
            _close_pipes(child)
        try:
            self._unshare.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:  # a child of ours that we do not know: our own end will reap it
            return
        _close_pipes(self._unshare)


def _close_pipes(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
