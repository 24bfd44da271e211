"""The direct path in use to one peer, how long it may be trusted alone, and when to doubt it.

A pong makes the path exclusive for 6.5 s. While data flows, silence from the peer raises doubt after 0.3 s, and hearing it
from elsewhere while the path is silent does so at once: the path is pinged again and again. Not answered within a
tenth of a second it is suspect: the relay carries everything too, and any other path that answers is taken. Not answered
in two seconds it is lost. Only a pong ends doubt: data coming in says nothing about data going out.
"""

from coderd.magicsock.path import PathQuality, is_improvement
from coderd.model.addresses import AddrPort

TRUST = 6.5
"""Seconds that a pong makes the best path exclusive for."""
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
    """At most one path, and its trust. Its owner is the peer's ``Endpoint``."""

    __slots__ = ("_doubt_since", "_heard_at", "_trust_until", "quality")

    def __init__(self) -> None:
        self.quality: PathQuality | None = None
        self._trust_until = _NEVER
        self._heard_at = _NEVER
        self._doubt_since: float | None = None

    @property
    def addr(self) -> AddrPort | None:
        """Where it goes."""
        return self.quality.addr if self.quality is not None else None

    @property
    def trust_until(self) -> float | None:
        """When trust ends; None where there is none."""
        return self._trust_until if self.quality is not None and self._trust_until != _NEVER else None

    def is_trusted(self, now: float) -> bool:
        """Whether the path may carry everything alone."""
        return self.quality is not None and now < self._trust_until

    def handle_pong(self, path: PathQuality, now: float) -> None:
        """A ping of ``path`` was answered: it may become the best, and if it is, it is trusted anew.

        Once trust has ended any answer wins, whatever its latency: better ones follow.
        """
        if not self.is_trusted(now) or self.is_suspect(now) or is_improvement(path, self.quality):
            self.quality = path
        if self.quality is not None and (self.quality.addr, self.quality.socket) == (path.addr, path.socket):
            self.quality = self.quality._replace(latency=path.latency)
            self._trust_until = now + TRUST
            self._heard_at = now
            self._doubt_since = None

    def handle_heard(self, addr: AddrPort, now: float) -> None:
        """Authenticated data came from an address: if it is the path's, the peer is alive there."""
        if addr == self.addr:
            self._heard_at = now

    def should_doubt(self, now: float) -> bool:
        """Whether, as something is being sent, the path has been silent for too long."""
        return self._doubt_since is None and now - self._heard_at > DOUBT_AFTER and self.is_trusted(now)

    def is_deserted(self, now: float) -> bool:
        """Whether the peer, just heard from elsewhere, has left the path: it is trusted, yet silent."""
        if self.quality is None or self._doubt_since is not None or not self.is_trusted(now):
            return False
        return now - self._heard_at > _patience(self.quality)

    @property
    def is_in_doubt(self) -> bool:
        """Whether the path has to prove itself."""
        return self._doubt_since is not None

    def begin_doubt(self, now: float) -> None:
        """From now on the path has to prove itself."""
        self._doubt_since = now

    def is_suspect(self, now: float) -> bool:
        """Whether doubt has lasted for so long that the path had better not carry anything alone."""
        if self._doubt_since is None or self.quality is None:
            return False
        return now - self._doubt_since >= _patience(self.quality)

    def is_lost(self, now: float) -> bool:
        """Whether doubt has lasted for too long."""
        if self._doubt_since is None or self.quality is None:
            return False
        return now - self._doubt_since >= max(DOUBT_LIMIT, 4 * self.quality.latency)

    def end_trust(self) -> None:
        """The path stays known, but carries nothing alone."""
        self._trust_until = _NEVER
        self._doubt_since = None

    def clear(self) -> None:
        """There is no path."""
        self.quality = None
        self.end_trust()
        self._heard_at = _NEVER


def _patience(path: PathQuality) -> float:
    """Seconds in which an answer by this path may be expected."""
    return max(SUSPECT_AFTER, 2 * path.latency)
