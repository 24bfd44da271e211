"""All that commands print.

Every line goes through ``visible`` here, as parts of it may come from other machines.

Nothing else in this package writes to stdout or stderr, but bytes of a workspace's own services (``nc``,
``terminal``); ``tests/unit/cli/test_say.py`` reads that from the syntax trees.
"""

import sys

import msgspec

from coderd.cli.shown import Shown, lines_text
from coderd.model.visible import json_visible, visible


def say(*lines: str) -> None:
    """Prints lines of a result for people on stdout."""
    say_text(lines_text(lines))


def say_text(text: Shown) -> None:
    """Prints a result for people that ``lines_text`` has made on stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say_json(value: object, *, is_line: bool = False) -> None:
    """Prints the result for programs on stdout: JSON of the value as it is, control characters escaped.

    Args:
        value: anything that is JSON.
        is_line: on one line, for a stream of values.
    """
    data = msgspec.json.encode(value)
    text = (data if is_line else msgspec.json.format(data, indent=2)).decode()
    sys.stdout.flush()
    sys.stdout.buffer.write(json_visible(text).encode() + b"\n")
    sys.stdout.buffer.flush()


def note(text: str, end: str = "\n") -> None:
    """Prints something for a person, beside the result, on stderr."""
    sys.stderr.write(visible(text) + end)
    sys.stderr.flush()


def wipe_notes(count: int) -> None:
    """Removes the last ``count`` lines that ``note`` wrote from the terminal."""
    sys.stderr.write(f"\x1b[{count}F\x1b[J")
    sys.stderr.flush()
