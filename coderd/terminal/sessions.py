"""Table of a workspace's shells: their owners and limits, attached clients, and which have to end.

Pure.

``open`` and ``find`` answer a client, ``attach`` and ``detach`` follow its stream, ``close`` follows the
shell's end, ``expired`` the clock, and ``forsaken`` the policy. A session belongs to the peer that opened it.
Its token, 16 random bytes, distinguishes the sessions of one peer, and where that peer is a server, of the
people who use it by browser.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from coderd.model import RandomBytes, limits
from coderd.model.errors import UserError
from coderd.terminal.frames import TOKEN_SIZE

MAX_SESSIONS: Final = limits.MAX_TERMINALS
MAX_SESSIONS_PER_PEER: Final = limits.MAX_TERMINALS_PER_PEER
MAX_SESSIONS_PER_PERSON: Final = limits.MAX_TERMINALS_PER_PERSON
RESERVED: Final = limits.TERMINALS_RESERVED
"""Sessions that only the workspace's owner may open, so that guests cannot use up all of them."""
DETACHED_LIFETIME: Final = limits.TERMINAL_DETACHED_LIFETIME
"""Seconds that a shell runs while no client is attached."""
MAX_GRACE: Final = limits.MAX_TERMINAL_GRACE
"""Seconds that a shell keeps running, at most, after its owner has lost access."""


@dataclass(slots=True, eq=False)
class Session:
    """A shell's entry in the table."""

    owner: str
    token: bytes = field(repr=False)
    detached_at: float | None
    """When the last client was detached; None while one is attached."""
    person: str = ""
    """The person that the owner's machine belongs to."""
    is_hosts: bool = False
    """Whether that person is the workspace's owner."""
    n_attached: int = 0
    """Number of clients attached so far; only the newest one is attached."""
    grace: float = 0.0
    """Seconds that the session lasts after its owner has lost access."""
    forsaken_at: float | None = None
    """When the owner was first seen without access; None while it has access."""


class Sessions:
    """The table of sessions.

    Args:
        rng: source of tokens.
        limit: most sessions in all.
        limit_per_peer: most sessions of one owner.
        limit_per_person: most sessions of all owners of one person.
        reserved: sessions of ``limit`` that only the workspace's owner may open.
        lifetime: seconds that a session lasts while no client is attached.
    """

    def __init__(
        self,
        rng: RandomBytes,
        *,
        limit: int = MAX_SESSIONS,
        limit_per_peer: int = MAX_SESSIONS_PER_PEER,
        limit_per_person: int = MAX_SESSIONS_PER_PERSON,
        reserved: int = RESERVED,
        lifetime: float = DETACHED_LIFETIME,
    ) -> None:
        self._rng = rng
        self._limit = limit
        self._limit_per_peer = limit_per_peer
        self._limit_per_person = limit_per_person
        self._limit_of_guests = limit - reserved
        self._lifetime = lifetime
        self._sessions: list[Session] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def open(
        self, owner: str, now: float, *, person: str = "", is_hosts: bool = False, grace: float = 0.0
    ) -> Session:
        """Creates a session without an attached client.

        Args:
            owner: the peer that it belongs to.
            now: seconds on the caller's clock.
            person: the person that the peer's machine belongs to; empty counts each owner as a person.
            is_hosts: whether that person owns the workspace.
            grace: seconds that it lasts after its owner has lost access, at most ``MAX_GRACE``.

        Raises:
            UserError: the owner, the person or all together have reached their limit.
        """
        person = person or owner
        if not self._has_room(owner, person, is_hosts):
            raise UserError("too many terminals are open in the workspace", code="busy")
        session = Session(
            owner, self._rng(TOKEN_SIZE), now, person, is_hosts, grace=min(max(grace, 0.0), MAX_GRACE)
        )
        self._sessions.append(session)
        return session

    def _has_room(self, owner: str, person: str, is_hosts: bool) -> bool:
        n_own = sum(session.owner == owner for session in self._sessions)
        n_of_person = sum(session.person == person for session in self._sessions)
        n_of_guests = sum(not session.is_hosts for session in self._sessions)
        return (
            n_own < self._limit_per_peer
            and n_of_person < self._limit_per_person
            and len(self._sessions) < self._limit
            and (is_hosts or n_of_guests < self._limit_of_guests)
        )

    def find(self, owner: str, token: bytes) -> Session:
        """Returns the owner's session with this token. Raises UserError if there is none."""
        for session in self._sessions:
            if hmac.compare_digest(session.token, token) and session.owner == owner:
                return session
        raise UserError("that terminal has ended", code="no_session")

    def attach(self, session: Session) -> int:
        """Attaches a client, which replaces the one before. Returns the number by which it is detached."""
        session.n_attached += 1
        session.detached_at = None
        return session.n_attached

    def detach(self, session: Session, number: int, now: float) -> None:
        """Detaches the client with this number, unless another one has taken its place."""
        if number == session.n_attached:
            session.detached_at = now

    def close(self, session: Session) -> None:
        """Removes a session whose shell has ended."""
        if session in self._sessions:
            self._sessions.remove(session)

    def expired(self, now: float) -> list[Session]:
        """Returns the sessions without a client for ``lifetime`` seconds. They stay until they are closed."""
        return [session for session in self._sessions if self._ends_at(session) <= now]

    def forsaken(self, may_come: Callable[[str], bool], now: float) -> list[Session]:
        """Returns the sessions whose owner has been without access for their ``grace``, attached or not."""
        for session in self._sessions:
            if may_come(session.owner):
                session.forsaken_at = None
            elif session.forsaken_at is None:
                session.forsaken_at = now
        return [
            session
            for session in self._sessions
            if session.forsaken_at is not None and now - session.forsaken_at >= session.grace
        ]

    def _ends_at(self, session: Session) -> float:
        return float("inf") if session.detached_at is None else session.detached_at + self._lifetime
