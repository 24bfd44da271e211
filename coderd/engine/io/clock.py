"""The process's clock: CLOCK_BOOTTIME, which counts on during suspension, and a timer that wakes by it.

WireGuard's timers, NAT mappings and leases do not stop when a laptop's lid is closed; a deadline that passed
meanwhile must fire on resume. Reading another clock is the small half: ``BootClock`` tells trio the time. The
other half is waking: trio sleeps in ``epoll_wait``, whose timeout is CLOCK_MONOTONIC and stands still during
suspension, so it would come late by as long as the machine slept. A timerfd on CLOCK_BOOTTIME, readable once
its instant has passed, ends the wait instead.

Trio asks the clock for the time until its next deadline before every wait, and there the timer is armed. It
is one system call, so it is spared where the timer would go off soon enough anyway: a deadline that moves
into the future with every packet costs one early wake-up when the old one passes, not a call per packet.

Python has timerfd since 3.13; before, it is two functions of the C library.
"""

import ctypes
import math
import os
import sys
import time
from contextlib import suppress

import trio

_TFD_TIMER_ABSTIME = 1
_EXPIRATIONS_SIZE = 8
_FURTHEST = 2.0**31
"""Seconds of a 32-bit ``time_t``; a deadline beyond is as good as none."""


class BootClock(trio.abc.Clock):
    """Trio's clock in seconds of CLOCK_BOOTTIME: ``trio.run(main, clock=BootClock())``.

    Without ``run_boot_timer`` deadlines still come, but late after a suspension.
    """

    def __init__(self) -> None:
        self._timer: _Timer | None = None
        self._armed_for = math.inf

    def start_clock(self) -> None:
        """Sets nothing up: the clock's epoch is the machine's start."""

    def current_time(self) -> float:
        """Returns seconds since the machine started, suspension included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Returns seconds until a deadline, and arms the timer, as trio is about to sleep that long."""
        now = self.current_time()
        if (
            self._timer is not None
            and now < deadline < _FURTHEST
            and (deadline < self._armed_for or self._armed_for <= now)
        ):
            self._timer.set(deadline)
            self._armed_for = deadline
        return deadline - now

    async def run_timer(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds the timer open and takes note of its expiries, until cancelled."""
        timer = _Timer()
        self._timer, self._armed_for = timer, math.inf
        try:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(timer.fd)
                timer.take_expiry()
        finally:
            self._timer = None
            timer.close()


async def run_boot_timer(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Makes the deadlines of this run hold across suspension; start it once, in the root nursery.

    Raises: RuntimeError if the run's clock is no ``BootClock``.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, BootClock):
        raise RuntimeError(f"the boot timer needs a BootClock, this run has {clock!r}")
    await clock.run_timer(task_status=task_status)


class _Timer:
    """One timerfd on CLOCK_BOOTTIME, set to absolute instants."""

    def __init__(self) -> None:
        self.fd = _timerfd_create()

    def set(self, when: float) -> None:
        # Rounded up, lest the loop wake a nanosecond before its deadline and sleep again.
        _timerfd_settime(self.fd, math.ceil(when * 1e9))

    def take_expiry(self) -> None:
        """Makes the descriptor unreadable again; a timer set anew in between has nothing to read."""
        with suppress(BlockingIOError):
            os.read(self.fd, _EXPIRATIONS_SIZE)

    def close(self) -> None:
        os.close(self.fd)


if sys.version_info >= (3, 13):

    def _timerfd_create() -> int:
        return os.timerfd_create(time.CLOCK_BOOTTIME, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

    def _timerfd_settime(fd: int, nanoseconds: int) -> None:
        os.timerfd_settime_ns(fd, flags=os.TFD_TIMER_ABSTIME, initial=nanoseconds)

else:

    class _TimeSpec(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    class _ITimerSpec(ctypes.Structure):
        _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))

    _libc = ctypes.CDLL(None, use_errno=True)

    def _timerfd_create() -> int:
        return _checked(_libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC))

    def _timerfd_settime(fd: int, nanoseconds: int) -> None:
        spec = _ITimerSpec(_TimeSpec(0, 0), _TimeSpec(*divmod(nanoseconds, 1_000_000_000)))
        _checked(_libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None))

    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
