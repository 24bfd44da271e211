"""Questions asked together, each answered once and in its place."""

import pytest
import trio

from coderd.server.batcher import Batcher


class Oracle:
    """Answers when it is let; a number's answer is its square."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.may_answer = trio.Event()
        self.is_broken = False

    async def answer_all(self, questions: list[int]) -> list[int]:
        self.asked.append(questions)
        await self.may_answer.wait()
        if self.is_broken:
            self.is_broken = False
            raise OSError("the disk")
        return [question**2 for question in questions]


async def test_who_comes_while_another_is_answered_is_answered_with_all_who_wait() -> None:
    oracle = Oracle()
    batcher, answers = Batcher(oracle.answer_all, 3), dict[int, int]()

    async def ask(number: int) -> None:
        answers[number] = await batcher.ask(number)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()
        oracle.may_answer.set()
    assert oracle.asked == [[0], [1, 2, 3], [4, 5]]
    assert answers == {number: number**2 for number in range(6)}


async def test_a_failure_ends_only_the_one_who_asked_and_one_who_leaves_takes_nobody_along() -> None:
    oracle = Oracle()
    batcher, failed, answers = Batcher(oracle.answer_all, 8), list[int](), dict[int, int]()
    impatient = trio.CancelScope()

    async def ask(number: int) -> None:
        try:
            with impatient if number == 1 else trio.CancelScope():
                answers[number] = await batcher.ask(number)
        except OSError:
            failed.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()
        impatient.cancel()
        await trio.testing.wait_all_tasks_blocked()
        oracle.is_broken = True
        oracle.may_answer.set()
    assert (failed, answers) == ([0], {2: 4, 3: 9})
    assert oracle.asked == [[0], [2, 3]]


async def test_alone_a_question_is_answered_at_once() -> None:
    oracle = Oracle()
    oracle.may_answer.set()
    with trio.fail_after(1):
        assert await Batcher(oracle.answer_all, 1).ask(7) == 49


async def test_what_breaks_is_raised() -> None:
    oracle = Oracle()
    oracle.is_broken = True
    oracle.may_answer.set()
    with pytest.raises(OSError, match="the disk"):
        await Batcher(oracle.answer_all, 1).ask(7)
