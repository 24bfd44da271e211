"""When a machine wants to be woken next, and why."""

from typing import NamedTuple


class Deadline(NamedTuple):
    """The earliest entry of a timer table.

    Attributes:
        when: seconds on the clock that the machine's ``now`` arguments come from.
        why: the timer's name, so that any wake-up can explain itself in the log.
    """

    when: float
    why: str


def earliest(*deadlines: Deadline | None) -> Deadline | None:
    """Returns the first of several deadlines, None where none of them is set."""
    return min((deadline for deadline in deadlines if deadline is not None), default=None)
