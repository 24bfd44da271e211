"""The direct path in use to one peer, how long it may be trusted alone, and when to doubt it.

A pong makes the path exclusive for 6.5 s. While data flows, silence from the peer raises doubt after 0.3 s,
and hearing it from elsewhere while the path is silent does so at once: the path is pinged again and again.
Not answered within a tenth of a second it is suspect: the relay carries everything too, and any other path
that answers is taken. Not answered in two seconds it is lost. Only a pong ends doubt: data coming in says
nothing about data going out.

The states and all ways between them are ``path_state.TRANSITIONS``.
"""

from coderd.magicsock.path import PathQuality, is_improvement
from coderd.magicsock.path_state import TRANSITIONS, TRUSTED, PathEvent, PathState
from coderd.model.addresses import AddrPort

ACTIVE_TIMEOUT = 45.0
"""Seconds after the last send for which a path is kept alive and looked for (Tailscale's
``sessionActiveTimeout``).
"""
TRUST = 6.5
"""Seconds that a pong makes the best path exclusive for.

Two heartbeats may be lost (Tailscale's ``trustUDPAddrDuration``).
"""
DOUBT_AFTER = 0.3
"""Seconds of silence, while sending, that raise doubt."""
DOUBT_INTERVAL = 0.15
"""Seconds between pings in doubt."""
SUSPECT_AFTER = 0.1
"""Seconds of doubt after which a path is suspect, or two round trips of a slow path if that is longer."""
DOUBT_LIMIT = 2.0
"""Seconds of doubt that end trust, or four round trips of a slow path if that is longer."""

_NEVER = float("-inf")


class BestPath:
    """At most one direct path to a peer, and its state.

    Attributes:
        quality: the path; kept when its trust ends, since it may come back.
    """

    __slots__ = ("_active_at", "_doubt_since", "_heard_at", "_state", "_trust_until", "quality")

    def __init__(self) -> None:
        self.quality: PathQuality | None = None
        self._state = PathState.IDLE
        """As of the last event; what time alone has changed since is in ``state``."""
        self._active_at = _NEVER
        self._trust_until = _NEVER
        """In the past while the path is not trusted."""
        self._heard_at = _NEVER
        self._doubt_since = _NEVER

    # Looking

    def state(self, now: float) -> PathState:
        """Returns the state at an instant."""
        state = self._state
        while (event := self._due(state, now)) is not None:
            state = TRANSITIONS[state][event]
        return state

    def is_trusted(self, now: float) -> bool:
        """Returns whether traffic goes by the path."""
        return now < self._trust_until

    @property
    def was_trusted(self) -> bool:
        """Returns whether traffic went by the path as of the last event: time alone does not change this."""
        return self._state in TRUSTED

    def is_suspect(self, now: float) -> bool:
        """Returns whether the path had better not carry anything alone."""
        return self._state is PathState.DOUBT and self.state(now) is PathState.SUSPECT

    @property
    def is_in_doubt(self) -> bool:
        """Returns whether only a pong can keep the path."""
        return self._state is PathState.DOUBT

    @property
    def addr(self) -> AddrPort | None:
        """Returns the address that the path goes to."""
        return self.quality.addr if self.quality is not None else None

    @property
    def trust_until(self) -> float | None:
        """Returns when trust ends unless a pong renews it; None if the path is not trusted."""
        return self._trust_until if self._state in TRUSTED else None

    def is_active(self, now: float) -> bool:
        """Returns whether the peer was wanted within ``ACTIVE_TIMEOUT``."""
        return now - self._active_at <= ACTIVE_TIMEOUT

    def is_lost(self, now: float) -> bool:
        """Returns whether doubt has lasted for too long."""
        if self._state is not PathState.DOUBT or self.quality is None:
            return False
        return now - self._doubt_since >= max(DOUBT_LIMIT, 4 * self.quality.latency)

    # What happened

    def note_wanted(self, now: float) -> None:
        """Notes that data or a user's ping is to be sent to the peer, or that the server has news of it."""
        self._active_at = now
        if self._state is PathState.IDLE:
            self._state = TRANSITIONS[PathState.IDLE][PathEvent.WANTED]

    def handle_pong(self, path: PathQuality, now: float) -> None:
        """Notes that a ping of ``path`` was answered.

        It may become the best, and if it is, it is trusted anew.

        Once trust has ended, or the path is suspect, any answer wins, whatever its latency: better ones
        follow.
        """
        state = self.state(now)
        if state not in (PathState.DIRECT, PathState.DOUBT) or is_improvement(path, self.quality):
            self.quality = path
        if self.quality is not None and (self.quality.addr, self.quality.socket) == (path.addr, path.socket):
            self.quality = self.quality._replace(latency=path.latency)
            self._state = TRANSITIONS[state][PathEvent.PONG]
            self._trust_until = now + TRUST
            self._heard_at = now

    def handle_heard(self, addr: AddrPort, now: float) -> None:
        """Notes authenticated data from an address: if it is the path's, the peer is alive there."""
        if addr == self.addr:
            self._heard_at = now

    def doubt_if_silent(self, now: float) -> bool:
        """Begins doubt if, as something is being sent, the path has been silent for too long.

        Returns whether it did.
        """
        is_silent = now - self._heard_at > DOUBT_AFTER
        return is_silent and self._begin_doubt(PathEvent.SILENT, now)

    def doubt_if_deserted(self, now: float) -> bool:
        """Begins doubt if the peer, just heard from elsewhere, has left the path, which is silent.

        Returns whether it did.
        """
        is_silent = self.quality is not None and now - self._heard_at > _patience(self.quality)
        return is_silent and self._begin_doubt(PathEvent.DESERTED, now)

    def end_trust(self, now: float) -> None:
        """Ends trust for want of a pong: the path stays known, but carries nothing alone."""
        state = self.state(now)
        self._state = TRANSITIONS[state][PathEvent.GIVEN_UP] if state in TRUSTED else state
        self._trust_until = _NEVER

    def clear(self) -> None:
        """Forgets the path, which is void."""
        self.quality = None
        if self._state in TRUSTED:
            self._state = TRANSITIONS[self._state][PathEvent.WITHDRAWN]
        self._trust_until = self._heard_at = _NEVER

    # Inside

    def _begin_doubt(self, event: PathEvent, now: float) -> bool:
        if self._state is not PathState.DIRECT or not self.is_trusted(now):
            return False
        self._state = TRANSITIONS[PathState.DIRECT][event]
        self._doubt_since = now
        return True

    def _due(self, state: PathState, now: float) -> PathEvent | None:
        """Returns what the clock alone has brought in a state."""
        if state in TRUSTED and now >= self._trust_until:
            return PathEvent.TRUST_ENDED
        if state is PathState.DOUBT and self._is_overdue(now):
            return PathEvent.OVERDUE
        if state is PathState.LOOKING and not self.is_active(now):
            return PathEvent.UNUSED
        return None

    def _is_overdue(self, now: float) -> bool:
        return self.quality is not None and now - self._doubt_since >= _patience(self.quality)


def _patience(path: PathQuality) -> float:
    """Returns the seconds in which an answer by this path may be expected."""
    return max(SUSPECT_AFTER, 2 * path.latency)
