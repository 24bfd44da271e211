"""The environment variables that coderd reads, and the ones that look like them but are not."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, NamedTuple

from coderd.config.node import NODE_SETTINGS, TOKEN_ENVIRONMENT
from coderd.config.relay import RELAY_SETTINGS
from coderd.config.server import SERVER_SETTINGS

URL: Final = "CODER_URL"
"""The server that coderctl's commands ask."""
DEBUG: Final = "CODERD_DEBUG"
"""Where it is set, logs begin at debug and an unexpected error shows its traceback."""

OTHERS: Final = {
    URL: "The server that coderctl asks.",
    TOKEN_ENVIRONMENT: "The workspace's token itself, for coderd run.",
    DEBUG: "Set to 1: log from debug on, and show the traceback of an unexpected error.",
    "WG_PROCESS_FOREGROUND": "Set to 1: coderd wireguard stays in the foreground.",
    "LOG_LEVEL": "What coderd wireguard logs to stderr: debug or error.",
}
"""Variables that are no setting of a table, and what each does."""

_INTERNAL: Final = frozenset({f"{TOKEN_ENVIRONMENT}_MEMFD", "CODERD_RUN_OPTIONS"})
"""The token's descriptor, passed to the same process begun anew, and the unit's own options.

The latter are used in systemd/coderd.service.
"""
_KUBERNETES: Final = re.compile(
    r"CODERD_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)", re.ASCII
)
"""What a container finds in its environment where a Kubernetes service is named ``coderd``."""

KNOWN: Final = frozenset(
    {setting.environment for setting in (*NODE_SETTINGS, *SERVER_SETTINGS, *RELAY_SETTINGS)} | OTHERS.keys()
)
"""Every variable that one of the commands reads."""


class UnknownName(NamedTuple):
    """A variable that no command reads, and the nearest one that some command does.

    ``nearest`` is empty where none is near.
    """

    name: str
    nearest: str

    @property
    def sentence(self) -> str:
        """Returns a warning for a person; the variable's value is not in it."""
        question = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"the environment variable {self.name} is unknown and has no effect{question}"


def unknown_names(names: Iterable[str]) -> list[UnknownName]:
    """Finds variables that are probably mistakes, in alphabetical order.

    These are names in ``CODERD_`` that no command reads, and names in ``CODER_`` that are one letter away
    from one that some command reads: inserted, left out, replaced, or two of them exchanged. Others in
    ``CODER_`` are Coder's own.
    """
    found = []
    for name in sorted(set(names) - KNOWN - _INTERNAL):
        if name.startswith("CODERD_") and not _KUBERNETES.fullmatch(name):
            found.append(UnknownName(name, next(iter(get_close_matches(name, sorted(KNOWN), 1, 0.85)), "")))
        elif name.startswith("CODER_"):
            near = [known for known in sorted(KNOWN) if is_one_letter_away(name, known)]
            found += [UnknownName(name, known) for known in near[:1]]
    return found


def is_one_letter_away(one: str, other: str) -> bool:
    """Tells whether one insertion, deletion, replacement or swap of neighbours makes one text the other."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    start = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    rest, other_rest = one[start:], other[start:]
    return (
        rest[1:] == other_rest[1:]
        or rest[1:] == other_rest
        or rest == other_rest[1:]
        or (rest[1::-1] == other_rest[:2] and rest[2:] == other_rest[2:])
    )
