"""As much of a long list as one page shows, and finding the rest by name. Pure."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

MAX_SHOWN: Final = 100
"""Items of one list on one page, few enough to render thousands of nodes' lists every few seconds."""


class Excerpt(NamedTuple):
    """What is shown of a list."""

    things: tuple[Any, ...]
    n_left_out: int
    """Of those that were looked for."""


def excerpt(things: Iterable[Any], wanted: str, *fields: str) -> Excerpt:
    """Returns the first items with a text in their fields, joined by slashes.

    Args:
        things: a list of the API's.
        wanted: the text to find; empty for all.
        fields: the names of the fields, such as ``owner`` and ``name`` to find ``ann/dev``.
    """
    text = wanted.strip().lower()
    found = [each for each in things if text in _label(each, fields).lower()]
    return Excerpt(tuple(found[:MAX_SHOWN]), max(0, len(found) - MAX_SHOWN))


def _label(thing: Any, fields: tuple[str, ...]) -> str:
    return "/".join(str(getattr(thing, field)) for field in fields)
