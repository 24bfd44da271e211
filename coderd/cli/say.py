"""All that commands print: every line goes through ``visible`` here, whoever has written what is in it.

Nothing else in this package writes to stdout or stderr, but bytes of a workspace's own services (``nc``, ``terminal``);
``tests/unit/cli/test_say.py`` reads that from the syntax trees.
"""

import sys

import msgspec

from coderd.cli.shown import Shown, lines_text
from coderd.model.visible import json_visible, visible


def say(*lines: str) -> None:
    """A result for people, on stdout."""
    say_text(lines_text(lines))


def say_text(text: Shown) -> None:
    """A result for people that has been put together, on stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say_json(value: object, *, is_line: bool = False) -> None:
    """The result for programs, on stdout: the very value, whatever a terminal would do with its letters.

    Args:
        value: anything that is JSON.
        is_line: on one line, where there are more of them to come.
    """
    data = msgspec.json.encode(value)
    text = (data if is_line else msgspec.json.format(data, indent=2)).decode()
    sys.stdout.flush()
    sys.stdout.buffer.write(json_visible(text).encode() + b"\n")
    sys.stdout.buffer.flush()


def note(text: str, end: str = "\n") -> None:
    """Something for a person, beside the result: on stderr."""
    sys.stderr.write(visible(text) + end)
    sys.stderr.flush()


def wipe_notes(count: int) -> None:
    """Takes the last lines that ``note`` wrote off the terminal."""
    sys.stderr.write(f"\x1b[{count}F\x1b[J")
    sys.stderr.flush()
