"""Questions that arrive while others are being answered, and are then answered all at once: one way to the disk for many."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

Q = TypeVar("Q")
A = TypeVar("A")


class _Waiting(Generic[Q, A]):
    """A question, and its answer when there is one."""

    def __init__(self, question: Q) -> None:
        self.question = question
        self.answers: list[A] = []


class Batcher(Generic[Q, A]):
    """Gathers questions.

    Args:
        answer_all: one answer for each question, in their order. Raises for all that were asked together.
        at_once: so many at most.
    """

    def __init__(self, answer_all: Callable[[list[Q]], Awaitable[list[A]]], at_once: int) -> None:
        self._answer_all = answer_all
        self._at_once = at_once
        self._waiting: dict[_Waiting[Q, A], None] = {}
        self._turn = trio.Lock()

    async def ask(self, question: Q) -> A:
        """The answer: at once where nobody is being answered, else with all who wait for that. Raises what ``answer_all`` raises."""
        own = _Waiting[Q, A](question)
        self._waiting[own] = None
        try:
            async with self._turn:
                if not own.answers:
                    await self._answer()
        finally:
            self._waiting.pop(own, None)
        return own.answers[0]

    async def _answer(self) -> None:
        """Answers those who have waited longest; whoever has the turn and no answer yet is among them."""
        together = list(self._waiting)[: self._at_once]
        answers = await self._answer_all([waiting.question for waiting in together])
        for waiting, answer in zip(together, answers, strict=True):
            waiting.answers.append(answer)
            self._waiting.pop(waiting, None)
