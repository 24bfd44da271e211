"""What a daemon's log says happened, and when.

Times are to the microsecond, on the clock that all daemons of a laboratory share.
"""

import re
from datetime import datetime
from typing import NamedTuple

LINE = re.compile(r"^(?P<at>\S+Z) \[(?P<level>\w+) *\] (?P<what>.*?) *(?P<fields>(?: ?\w+=\S*)*)$")


class Entry(NamedTuple):
    """One line of a log."""

    at: float
    """Seconds since 1970, as `time.time` gives them."""
    what: str
    fields: dict[str, str]


def entries(log: str) -> list[Entry]:
    """The lines of a log that tell of something. Others, of a traceback or half written, are left out."""
    found = (LINE.match(line) for line in log.splitlines())
    return [_entry(line) for line in found if line is not None]


def _entry(line: re.Match[str]) -> Entry:
    at = datetime.fromisoformat(line["at"]).timestamp()
    fields = dict(field.split("=", 1) for field in line["fields"].split())
    return Entry(at, line["what"], fields)
