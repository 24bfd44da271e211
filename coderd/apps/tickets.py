"""Tickets: once, within half a minute, a browser proves to an app's host who it is to the server. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Final

from coderd.model import RandomBytes, limits

LIFETIME: Final = limits.TICKET_LIFETIME
"""Seconds: as long as a browser takes from one page to the next."""
MAX_TICKETS: Final = limits.MAX_TICKETS
"""The oldest goes for one more."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket is good for."""

    host: str
    session_hash: bytes
    target: str
    """Path and query to go on at."""
    expires_at: float


class Tickets:
    """Tickets that were issued and not yet redeemed."""

    def __init__(self, rng: RandomBytes) -> None:
        self._rng = rng
        self._open: dict[bytes, Ticket] = {}

    def issue(self, host: str, session_hash: bytes, target: str, now: float) -> str:
        """Returns a new ticket for one host."""
        text = self._rng(32).hex()
        self._open[_key(text)] = Ticket(host, session_hash, target, now + LIFETIME)
        if len(self._open) > MAX_TICKETS:
            del self._open[next(iter(self._open))]
        return text

    def redeem(self, text: str, host: str, now: float) -> Ticket | None:
        """Redeems a ticket, which works once; returns None if it is invalid or expired."""
        ticket = self._open.pop(_key(text), None)
        return ticket if ticket is not None and ticket.host == host and now < ticket.expires_at else None


def _key(text: str) -> bytes:
    """Returns the hash by which a ticket is looked up, so that timing reveals nothing about tickets."""
    return hashlib.sha256(text.encode()).digest()
