"""Long lists in pages. Pure.

Each page begins behind the last thing of the one before, whatever came and went meanwhile.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from coderd.api.messages import ApiMessage, PageQuery, encode_message
from coderd.model import limits

MAX_BYTES: Final = limits.MAX_API_PAGE_BYTES
"""Bytes of the things of one page, which has one thing at least."""

T = TypeVar("T")
M = TypeVar("M", bound=ApiMessage)


def page_of(
    things: Sequence[T], key: Callable[[T], str], query: PageQuery
) -> tuple[list[T], list[str], bool]:
    """Returns the items of the page that is asked for, each with its key.

    Args:
        things: all.
        key: by what they are ordered; no two have the same.
        query: which page; without a limit it is all that follows.
    """
    ordered = sorted(things, key=key)
    keys = [key(each) for each in ordered]
    start = bisect_right(keys, query.after) if query.after else 0
    end = len(keys) if query.limit is None else start + query.limit
    return ordered[start:end], keys[start:end], end < len(keys)


def fit(
    shown: Sequence[M], keys: Sequence[str], query: PageQuery, *, has_more: bool
) -> tuple[list[M], str | None]:
    """Returns as many items of a page as may be sent at once, and the cursor of the next page.

    Without a limit all items are returned: a client of before pages knows no cursor.
    """
    n_fit, n_bytes = len(shown), 0
    for index, each in enumerate(shown if query.limit is not None else ()):
        n_bytes += len(encode_message(each))
        if n_bytes > MAX_BYTES and index:
            n_fit = index
            break
    is_cut = n_fit < len(shown) or has_more
    return list(shown[:n_fit]), keys[n_fit - 1] if is_cut and n_fit else None
