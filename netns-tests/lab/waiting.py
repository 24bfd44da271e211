"""Waiting for a condition with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

from lab.process import LabError

T = TypeVar("T")

POLL_INTERVAL = 0.02


def until(condition: Callable[[], T | None], what: str, *, timeout: float = 20.0) -> T:
    """The first true value of a condition.

    Args:
        condition: asked again and again; a false value means "not yet".
        what: what is waited for, for the message: ``until(..., "dev to come online")``.
        timeout: seconds until LabError.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(POLL_INTERVAL)
    return value
