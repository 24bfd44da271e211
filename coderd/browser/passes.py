"""The cookie of an app's host: it stands for a session of the server, for one host and a while, and is no session. Pure.

    base64url( expires_at (8, big-endian) | session's hash (32) | HMAC-SHA256 over both and the host (32) )

Whoever steals it from the app's host can use that app and nothing else: what it holds of the session is the hash by which the
server looks it up, so that a revoked session ends its passes, too. Nothing is stored.
"""

import hashlib
import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BadBase64
from typing import Final, NamedTuple

from coderd.model import limits

LIFETIME: Final = limits.PASS_LIFETIME
"""Seconds; then the browser is handed over again."""

_HEAD: Final = struct.Struct(">Q32s")
_MAC_SIZE: Final = 32
_TEXT_SIZE: Final = 96


class Pass(NamedTuple):
    """What a good pass says."""

    session_hash: bytes
    expires_at: int
    """Wall-clock seconds."""


def make_pass(key: bytes, host: str, session_hash: bytes, unix_now: float) -> str:
    """A new pass of 96 letters for one host."""
    head = _HEAD.pack(int(unix_now + LIFETIME), session_hash)
    return urlsafe_b64encode(head + _mac(key, host, head)).decode()


def read_pass(key: bytes, host: str, text: str, unix_now: float) -> Pass | None:
    """What a pass says; None for any other text, another host's, and one that has expired."""
    if len(text) != _TEXT_SIZE or not text.isascii():
        return None
    try:
        raw = urlsafe_b64decode(text)
    except (BadBase64, ValueError):
        return None
    head, mac = raw[: _HEAD.size], raw[_HEAD.size :]
    if len(mac) != _MAC_SIZE or not hmac.compare_digest(mac, _mac(key, host, head)):
        return None
    expires_at, session_hash = _HEAD.unpack(head)
    return Pass(session_hash, expires_at) if unix_now < expires_at else None


def _mac(key: bytes, host: str, head: bytes) -> bytes:
    return hmac.digest(key, b"coderd app pass\0" + host.encode() + b"\0" + head, hashlib.sha256)
