"""Tasks that wait for a node's answers: each is woken by its own, and none for ever."""

import trio
from trio.testing import MockClock

from coderd.engine.io.answers import Answers, Pong
from coderd.magicsock import PingReply
from coderd.model.keys import NodePublic
from coderd.model.paths import PathInfo, PathKind
from coderd.netcheck import Report

PEER = NodePublic(b"p" * 32)
PATH = PathInfo(PathKind.RELAY, 7, 0.02, 0.0)


def reply(token: int) -> PingReply:
    return PingReply(token, PEER, PATH, 0.02)


async def test_a_ping_is_answered_by_its_own_reply(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    answers, found = Answers(), dict[int, Pong | None]()

    async def wait(token: int) -> None:
        found[token] = await answers.pong(token, lambda: None, 5)

    nursery.start_soon(wait, 1)
    nursery.start_soon(wait, 2)
    await trio.testing.wait_all_tasks_blocked()
    answers.handle_reply(reply(2))
    await trio.sleep(6)
    assert found == {2: Pong(PATH, 0.02), 1: None}
    answers.handle_reply(reply(1))


async def test_an_answer_that_comes_while_the_ping_is_sent_is_not_missed(autojump_clock: MockClock) -> None:
    answers = Answers()
    assert await answers.pong(1, lambda: answers.handle_reply(reply(1)), 5) == Pong(PATH, 0.02)


async def test_a_fresh_report_is_not_waited_for(autojump_clock: MockClock) -> None:
    report = Report(10.0, taken_at=10.0)
    assert await Answers().report(lambda: report, lambda: None, 10.0, 0.0) is report


async def test_a_stale_report_is_replaced_by_the_next_that_began_late_enough(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    answers, reports = Answers(), [Report(1.0, taken_at=1.0)]
    n_checks = 0

    def check() -> None:
        nonlocal n_checks
        n_checks += 1

    async def measure() -> None:
        for started_at in (2.0, 11.0):
            await trio.sleep(1)
            reports.append(Report(started_at, taken_at=started_at))
            answers.handle_netcheck()

    nursery.start_soon(measure)
    found = await answers.report(lambda: reports[-1], check, 10.0, 5.0)
    assert found is reports[-1]
    assert (found.started_at, n_checks) == (11.0, 1)


async def test_where_no_report_comes_the_wait_ends(autojump_clock: MockClock) -> None:
    began_at = trio.current_time()
    assert await Answers().report(lambda: None, lambda: None, 10.0, 5.0) is None
    assert trio.current_time() - began_at == 5.0
