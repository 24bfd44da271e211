"""The clock that counts suspension. Nobody suspends the machine: an ``epoll`` timeout that comes too late looks the same."""

import os
import time

import pytest
import trio

from coderd.engine.io.clock import BootClock, run_boot_timer


class OversleepingClock(BootClock):
    """Arms the timer rightly, then lets trio sleep for an hour more: as ``epoll`` does across a suspension of an hour."""

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return super().deadline_to_sleep_time(deadline) + 3600


class CountingClock(BootClock):
    """Counts how often the timer is armed."""

    n_armed = 0

    def deadline_to_sleep_time(self, deadline: float) -> float:
        before = self._armed_for
        sleep = super().deadline_to_sleep_time(deadline)
        self.n_armed += before != self._armed_for
        return sleep


def test_time_is_boot_time() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = BootClock().current_time()
    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_deadlines_come_when_epoll_oversleeps() -> None:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            await nursery.start(run_boot_timer)
            start = trio.current_time()
            for _ in range(3):
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        return trio.current_time() - start

    assert 0.03 <= trio.run(main, clock=OversleepingClock()) < 10


def test_a_nearer_deadline_replaces_a_farther_one() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(run_boot_timer)
            nursery.start_soon(trio.sleep, 1000)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=OversleepingClock())


def test_a_deadline_that_moves_away_does_not_rearm_the_timer() -> None:
    clock = CountingClock()

    async def main() -> int:
        async with trio.open_nursery() as nursery:
            await nursery.start(run_boot_timer)
            with trio.CancelScope(deadline=trio.current_time() + 100) as scope:
                await trio.testing.wait_all_tasks_blocked()
                before = clock.n_armed
                for _ in range(20):
                    scope.deadline += 1
                    await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return clock.n_armed - before

    assert trio.run(main, clock=clock) == 0


def test_a_clock_without_its_timer_still_sleeps() -> None:
    async def main() -> None:
        await trio.sleep(0.001)

    trio.run(main, clock=BootClock())


def test_endless_sleep_arms_nothing() -> None:
    clock = CountingClock()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(run_boot_timer)
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)
    assert clock.n_armed == 0


def test_the_timer_is_closed_with_its_task() -> None:
    async def main() -> None:
        before = os.listdir("/proc/self/fd")
        async with trio.open_nursery() as nursery:
            await nursery.start(run_boot_timer)
            assert len(os.listdir("/proc/self/fd")) == len(before) + 1
            nursery.cancel_scope.cancel()
        assert len(os.listdir("/proc/self/fd")) == len(before)

    trio.run(main, clock=BootClock())


async def test_another_clock_is_refused() -> None:
    with pytest.raises(RuntimeError, match="BootClock"):
        await run_boot_timer()
