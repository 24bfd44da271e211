"""The cookie of an app's host, and of the server's own.

It stands for a session of the server, for one host and a while. Pure.

A ``model.sealed`` text over the session's hash (32 bytes), its host the context. Whoever steals it from an
app's host can use that app and nothing else: what it holds of the session is the hash by which the server
looks it up, so that a revoked session ends its passes, too. Nothing is stored.
"""

from typing import Final, NamedTuple

from coderd.model import limits
from coderd.model.sealed import Seal, open_released

LIFETIME: Final = limits.PASS_LIFETIME
"""Seconds; then the browser is handed over again."""

_PURPOSE: Final = b"coderd pass"
_HASH_SIZE: Final = 32


class Pass(NamedTuple):
    """What a valid pass says."""

    session_hash: bytes
    expires_at: int
    """Wall-clock seconds."""


def make_pass(secret: bytes, host: str, session_hash: bytes, unix_now: float) -> str:
    """Returns a new pass of 96 letters for one host."""
    return Seal(secret, _PURPOSE).seal(session_hash, host.encode(), int(unix_now + LIFETIME))


def read_pass(secret: bytes, host: str, text: str, unix_now: float) -> Pass | None:
    """Returns what a pass says; None for any other text, another host's, and one that has expired."""
    seal, context = Seal(secret, _PURPOSE), host.encode()
    opened = seal.open(text, context, _HASH_SIZE, unix_now)
    if opened is None:
        opened = open_released(secret, b"coderd app pass\0" + context + b"\0", text, _HASH_SIZE, unix_now)
    return Pass(*opened) if opened is not None else None
