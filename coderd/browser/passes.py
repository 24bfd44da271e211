"""Passes: cookies that authenticate a server's session at one host, an app's or the server's own.

Pure.

A pass is a ``model.sealed`` text over the session's hash (32 bytes), with its host as the context. A pass
that is stolen from an app's host opens that app and nothing else: it holds only the hash by which the server
looks the session up, so that revoking a session revokes its passes. The server does not store passes.
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
