"""The monitor, with literal times: who is told that we are alive, and who is given up."""

from contextlib import ExitStack

from coderd.coordination.io.keepalive import BEAT, KeepaliveMonitor


class Recorder:
    """A link that notes what is done to it."""

    def __init__(self, now: float) -> None:
        self.heard_at = self.said_at = now
        self.alive_at: list[float] = []
        self.is_given_up = False

    def say_alive(self, now: float) -> None:
        self.alive_at.append(now)

    def give_up(self) -> None:
        assert not self.is_given_up
        self.is_given_up = True


def beat(monitor: KeepaliveMonitor, since: float, until: float) -> None:
    for index in range(1, int((until - since) / BEAT) + 1):
        monitor.beat(since + index * BEAT)


def test_a_link_that_nothing_was_said_to_hears_alive_every_four_seconds() -> None:
    monitor, link = KeepaliveMonitor(100.0), Recorder(100.0)
    with monitor.watching(link):
        beat(monitor, 100.0, 109.0)
    assert link.alive_at == [104.0, 108.0]


def test_what_is_said_puts_alive_off() -> None:
    monitor, link = KeepaliveMonitor(100.0), Recorder(100.0)
    with monitor.watching(link):
        beat(monitor, 100.0, 103.0)
        link.said_at = 103.0
        beat(monitor, 103.0, 106.0)
    assert link.alive_at == []


def test_who_says_nothing_for_ten_seconds_is_given_up_once() -> None:
    monitor, silent, heard = KeepaliveMonitor(100.0), Recorder(100.0), Recorder(100.0)
    with ExitStack() as watched:
        watched.enter_context(monitor.watching(silent))
        watched.enter_context(monitor.watching(heard))
        beat(monitor, 100.0, 109.0)
        heard.heard_at = 109.0
        beat(monitor, 109.0, 112.0)
    assert (silent.is_given_up, heard.is_given_up) == (True, False)


def test_time_in_which_the_process_was_held_up_is_no_silence() -> None:
    monitor, link = KeepaliveMonitor(100.0), Recorder(100.0)
    with monitor.watching(link):
        beat(monitor, 100.0, 101.0)
        monitor.beat(161.0)
        assert not link.is_given_up
        beat(monitor, 161.0, 171.0)
    assert link.is_given_up


def test_nobody_watches_a_link_that_has_ended() -> None:
    monitor, link = KeepaliveMonitor(100.0), Recorder(100.0)
    with monitor.watching(link):
        pass
    beat(monitor, 100.0, 120.0)
    assert (link.alive_at, link.is_given_up) == ([], False)
