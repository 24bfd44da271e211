"""Group commit: questions that arrive while a batch is answered are answered together in the next one."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

Q = TypeVar("Q")
A = TypeVar("A")


class _Waiting(Generic[Q, A]):
    """Question that waits, with its answer once there is one."""

    def __init__(self, question: Q) -> None:
        self.question = question
        self.answers: list[A] = []


class Batcher(Generic[Q, A]):
    """Batches of questions, answered one batch at a time.

    Args:
        answer_all: returns one answer for each question, in their order; an exception is raised in every
            ``ask`` that
            called it.
        at_once: the most questions in a batch.
    """

    def __init__(self, answer_all: Callable[[list[Q]], Awaitable[list[A]]], at_once: int) -> None:
        self._answer_all = answer_all
        self._at_once = at_once
        self._waiting: dict[_Waiting[Q, A], None] = {}
        self._turn = trio.Lock()

    async def ask(self, question: Q) -> A:
        """Answers a question: at once if no batch is being answered, else in a later batch.

        Raises what ``answer_all`` raises.
        """
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
        """Answers the questions that have waited longest, the caller's among them."""
        together = list(self._waiting)[: self._at_once]
        answers = await self._answer_all([waiting.question for waiting in together])
        for waiting, answer in zip(together, answers, strict=True):
            waiting.answers.append(answer)
            self._waiting.pop(waiting, None)
