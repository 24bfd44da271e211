"""Untrusted text made safe to show on a terminal, in a log or on a page. Pure.

A terminal obeys control characters: ESC and the C1 controls move its cursor, set its window title, write its
clipboard or type in the user's place; a newline forges a line of output; a right-to-left override disguises a
name. Each invisible or direction-changing character is shown as one �.
"""

from typing import Final
from unicodedata import category

from coderd.model import limits

MAX_TEXT: Final = limits.MAX_SHOWN_TEXT
REPLACEMENT: Final = "�"
MORE: Final = "…"
"""Stands where a text was too long."""

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Unicode's general categories of characters that are made visible (UAX 44).

They are controls, formats, unassigned, private, surrogates, and separators of lines and paragraphs.
"""
_FORMLESS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    map(chr, [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)])
)
"""Letters and marks that are drawn as nothing: fillers, joiners, selectors of variants."""


def is_hidden(letter: str) -> bool:
    """Returns whether a letter is invisible: a control, a format character, or drawn as nothing."""
    return category(letter) in _HIDDEN or letter in _FORMLESS


def visible(text: str, limit: int = MAX_TEXT) -> str:
    """Returns a text as one line without terminal commands, hidden letters or changes of direction.

    Args:
        text: from anywhere.
        limit: letters after which it is cut.
    """
    if len(text) > limit:
        text = text[:limit] + MORE
    if text.isascii() and text.isprintable():
        return text
    return "".join(REPLACEMENT if is_hidden(letter) else letter for letter in text)


def json_visible(text: str) -> str:
    """Returns JSON of equal value, hidden letters within its strings escaped (RFC 8259, section 7)."""
    if text.isascii() and "\x7f" not in text:
        return text  # controls below space are escaped in any JSON
    return "".join(_escaped(letter) if letter > "~" and is_hidden(letter) else letter for letter in text)


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
