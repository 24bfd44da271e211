"""As much of a long list as one page shows, and finding the rest by name. Pure."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

MAX_SHOWN: Final = 100
"""Of one list on one page: what a server of thousands of machines can write anew every few seconds for whoever looks."""


class Excerpt(NamedTuple):
    """What is shown of a list."""

    things: tuple[Any, ...]
    n_left_out: int
    """Of those that were looked for."""


def excerpt(things: Iterable[Any], wanted: str, *fields: str) -> Excerpt:
    """Returns the first items whose fields, joined by slashes, contain a text.

    Args:
        things: a list of the API's.
        wanted: what somebody looks for; empty for all.
        fields: the names of a thing, say ``owner`` and ``name`` to find ``ann/dev``.
    """
    text = wanted.strip().lower()
    found = [each for each in things if text in _label(each, fields).lower()]
    return Excerpt(tuple(found[:MAX_SHOWN]), max(0, len(found) - MAX_SHOWN))


def _label(thing: Any, fields: tuple[str, ...]) -> str:
    return "/".join(str(getattr(thing, field)) for field in fields)
