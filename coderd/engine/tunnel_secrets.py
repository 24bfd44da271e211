"""Tunnel secrets, which authenticate connections made through a peer's daemon to its node. Pure.

Every local user can open a connection into the tunnel, and its source is this machine's address all the
same. So a device sends each workspace a secret, in a packet that no local user can send, and its daemon gives
that secret to the clients that its control socket allows (see ``node_api``). There is one secret per pair,
new at each start and kept in memory only.

    HandshakeCompleted -> sent -> acknowledged                 the usual case, in one round trip
                          sent again after REPEATS, then with the next handshake
    a workspace that misses it -> requests it -> sent          at most every ASK_INTERVAL

A workspace demands the secret of a device that has sent one, or that the server says is capable of it.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from coderd.engine.introduction import (
    SecretAcknowledged,
    SecretTold,
    acknowledge_secret,
    tell_secret,
    want_secret,
)
from coderd.model import RandomBytes
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic
from coderd.model.netmap import Capability, Peer

SECRET_SIZE: Final = 32
REPEATS: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between two tellings of what is not acknowledged."""
ASK_INTERVAL: Final = 0.25
"""Least seconds between two questions to one peer."""


@dataclass(frozen=True, slots=True)
class _Telling:
    """What a peer is owed: the next of ``REPEATS``, and when it is told."""

    n_told: int
    due_at: float


class TunnelSecrets:
    """Secrets by which peers recognise connections from each other's daemons: this node's, and the peers'.

    Args:
        rng: makes this start's.
        generation: this start's.
    """

    def __init__(self, rng: RandomBytes, generation: int) -> None:
        self._master = rng(SECRET_SIZE)
        self._generation = generation
        self._theirs: dict[NodePublic, SecretTold] = {}
        self._telling: dict[NodePublic, _Telling] = {}
        self._asked_at: dict[NodePublic, float] = {}

    def ours(self, peer: NodePublic) -> bytes:
        """Returns the secret of 32 bytes that connections from this node show to a peer."""
        return hmac.digest(self._master, bytes(peer), hashlib.sha256)

    def demands(self, peer: Peer) -> bool:
        """Returns whether connections from a peer must show its secret: it has sent one, or is able to."""
        return peer.node_key in self._theirs or Capability.TUNNEL_SECRET in peer.capabilities

    def is_shown(self, peer: NodePublic, shown: bytes) -> bool:
        """Returns whether this is the secret that the peer's daemon has sent; compares in constant time."""
        told = self._theirs.get(peer)
        return told is not None and hmac.compare_digest(told.secret, shown)

    def set_peers(self, peers: Mapping[NodePublic, Peer], before: Mapping[NodePublic, Peer]) -> None:
        """Sets the current peers; forgets the secrets of those that are gone or have restarted."""
        for key in before.keys() - peers.keys():
            self._theirs.pop(key, None)
            self._telling.pop(key, None)
            self._asked_at.pop(key, None)
        for key, told in list(self._theirs.items()):
            known, peer = before.get(key), peers.get(key)
            is_changed = known is not None and peer is not None and known.generation != peer.generation
            if is_changed and peer is not None and told.generation != peer.generation:
                del self._theirs[key]

    def handle_session(self, peer: Peer, now: float) -> None:
        """Sends the secret over a new session until acknowledged; once to a peer that cannot acknowledge."""
        can_acknowledge = Capability.TUNNEL_SECRET in peer.capabilities
        self._telling[peer.node_key] = _Telling(0 if can_acknowledge else len(REPEATS), now)

    def handle_wanted(self, peer: NodePublic, now: float) -> None:
        """Begins to send the secret to a peer that asks for it."""
        self._telling[peer] = _Telling(0, now)

    def handle_acknowledged(self, event: SecretAcknowledged) -> None:
        """Stops sending the secret to a peer that acknowledges it, if the digest is right."""
        if hmac.compare_digest(event.digest, _digest(self.ours(event.peer))):
            self._telling.pop(event.peer, None)

    def handle_told(self, event: SecretTold) -> bytes:
        """Keeps the secret that a peer sends. Returns the acknowledgement's body."""
        self._theirs[event.peer] = event
        return acknowledge_secret(_digest(event.secret))

    def ask(self, peer: NodePublic, now: float) -> bytes | None:
        """Returns the body of a request for a peer's secret; None within ``ASK_INTERVAL`` of the last."""
        if now - self._asked_at.get(peer, float("-inf")) < ASK_INTERVAL:
            return None
        self._asked_at[peer] = now
        return want_secret()

    def poll(self, now: float) -> Iterator[tuple[NodePublic, bytes]]:
        """Yields the peers to which the secret is due, each with the body to send."""
        for peer, telling in list(self._telling.items()):
            if telling.due_at > now:
                continue
            if telling.n_told < len(REPEATS):
                self._telling[peer] = _Telling(telling.n_told + 1, now + REPEATS[telling.n_told])
            else:
                del self._telling[peer]
            yield peer, tell_secret(self._generation, self.ours(peer))

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``poll``, or None."""
        when = min((telling.due_at for telling in self._telling.values()), default=None)
        return Deadline(when, "secret") if when is not None else None


def _digest(secret: bytes) -> bytes:
    """What tells one secret from another without being one."""
    return hashlib.sha256(b"coderd tunnel secret" + secret).digest()[:8]
