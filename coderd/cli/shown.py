"""Text that may be shown on a terminal: control characters in it are made visible. Pure."""

from collections.abc import Iterable
from typing import NewType

from coderd.model.visible import visible

Shown = NewType("Shown", str)
"""Lines that a terminal may have; made by ``lines_text`` alone."""


def lines_text(lines: Iterable[str]) -> Shown:
    """Returns lines that a terminal may have, a newline behind each.

    Control characters in a line are made visible.
    """
    return Shown("".join(f"{visible(line)}\n" for line in lines))
