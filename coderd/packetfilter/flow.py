"""One flow, and the bounded table of one peer's flows.

A flow's key is its protocol, this node's port and the peer's: ``protocol(1) port(2) port(2)``, of ICMPv6 echo
the identifier instead of ports, of fragments the identification that they share.

Two shares, of flows that the peer began and of those that this node began, each with its own limit: so a peer
pushes out neither another's flows, whose table is another, nor those that this node began with it. In a full
share the longest untouched *fleeting* flow makes room (all but established TCP is fleeting); where all are
established, one more is refused.
"""

from collections.abc import Callable, Iterator

from coderd.packet import PROTOCOL_TCP, PROTOCOL_UDP

MAX_FLOWS_OF_PEER = 4096
"""Flows that one peer began and that are remembered."""
MAX_FLOWS_TO_PEER = 16_384
"""Flows that this node began with one peer and that are remembered."""
OPENING_LIFETIME = 150.0
"""Seconds of a TCP handshake: longer than Linux repeats a SYN (127)."""
ESTABLISHED_LIFETIME = 5 * 86_400.0
"""Seconds that an established TCP connection may be silent, as in Linux's own connection tracking."""
CLOSING_LIFETIME = 120.0
"""Seconds after the last packet of one that has ended: two maximum segment lifetimes (RFC 9293)."""
ENDED_LIFETIME = 8 * 3600.0
"""Seconds since its last packet that a TCP flow is kept shut which is not allowed any more.

Beyond its ends' own patience.
"""
UDP_LIFETIME = 300.0
"""Seconds (RFC 4787, REQ-5, recommends five minutes)."""
ECHO_LIFETIME = 60.0
FRAGMENT_LIFETIME = 30.0
"""Seconds for the rest of a packet whose first fragment was admitted; Linux reassembles within 60."""
SWEEP_INTERVAL = 60.0
"""Least seconds between two searches of a share full of established flows for those that have died."""

OURS, THEIRS = 1, 2
"""Bits of who has sent a FIN."""


class Flow:
    """One flow, and what its packets have told so far. Changed by the filter alone."""

    __slots__ = (
        "expires_at",
        "fins",
        "has_sent",
        "is_closing",
        "is_ended",
        "is_established",
        "is_theirs",
        "lifetime",
    )

    def __init__(self, *, is_theirs: bool, lifetime: float, is_ended: bool = False) -> None:
        self.is_theirs = is_theirs
        """The peer began it; where nobody can know, whoever is likely to have."""
        self.is_ended = is_ended
        """It was allowed, and is not any more: nothing passes, either way."""
        self.is_established = False
        """TCP only: both ends have spoken, and the peer after this node."""
        self.is_closing = False
        self.has_sent = False
        """This node has sent something in it."""
        self.fins = 0
        self.lifetime = lifetime
        """Seconds that it outlives its last packet."""
        self.expires_at = 0.0

    def touch(self, now: float) -> None:
        """Notes that a packet of the flow passed."""
        self.expires_at = now + self.lifetime


class _Share:
    """Flows that one end began: how many, and those that may make room, the one to go next first."""

    __slots__ = ("fleeting", "limit", "n", "swept_at")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.n = 0
        self.fleeting: dict[bytes, Flow] = {}
        self.swept_at = float("-inf")


class FlowTable:
    """The flows of one peer."""

    def __init__(self) -> None:
        self._flows: dict[bytes, Flow] = {}
        self._ours, self._theirs = _Share(MAX_FLOWS_TO_PEER), _Share(MAX_FLOWS_OF_PEER)

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[tuple[bytes, Flow]]:
        return iter(self._flows.items())

    def find(self, key: bytes, now: float) -> Flow | None:
        """Returns the flow of a key, if it lives."""
        flow = self._flows.get(key)
        if flow is not None and flow.expires_at <= now:
            self.remove(key)
            return None
        return flow

    def open(self, key: bytes, flow: Flow, now: float) -> bool:
        """Remembers a flow, in place of one with the same key.

        False: its share is full of established ones.
        """
        self.remove(key)
        share = self._share_of(flow)
        self._forget_some(share, now)
        if share.n >= share.limit and not self._make_room(share, now):
            return False
        flow.touch(now)
        self._flows[key] = share.fleeting[key] = flow
        share.n += 1
        return True

    def establish(self, key: bytes, flow: Flow) -> None:
        """Notes that a TCP connection stands: from here on it is not evicted."""
        flow.is_established, flow.lifetime = True, ESTABLISHED_LIFETIME
        self._share_of(flow).fleeting.pop(key, None)

    def close(self, key: bytes, flow: Flow) -> None:
        """Notes that a TCP connection has ended; stragglers still pass."""
        flow.is_closing, flow.is_established, flow.lifetime = True, False, CLOSING_LIFETIME
        self._share_of(flow).fleeting[key] = flow

    def remove(self, key: bytes) -> None:
        """Forgets a flow; a key that has none is no error."""
        flow = self._flows.pop(key, None)
        if flow is not None:
            flow.expires_at = float("-inf")  # whoever still holds it sees that it is gone
            share = self._share_of(flow)
            share.fleeting.pop(key, None)
            share.n -= 1

    def hold_to(self, accepts: Callable[[int, int], bool], now: float) -> None:
        """Ends what the peer began and may not begin any more, and lets begin again what it may now."""
        for key, flow in list(self._flows.items()):
            if not flow.is_theirs:
                continue
            if key[0] not in (PROTOCOL_TCP, PROTOCOL_UDP):
                self.remove(key)
            elif accepts(key[0], int.from_bytes(key[1:3])):
                if flow.is_ended:
                    self.remove(key)
            elif not flow.is_ended:
                lifetime = ENDED_LIFETIME if key[0] == PROTOCOL_TCP else UDP_LIFETIME
                self.open(key, Flow(is_theirs=True, lifetime=lifetime, is_ended=True), now)

    def _share_of(self, flow: Flow) -> _Share:
        return self._theirs if flow.is_theirs else self._ours

    def _forget_some(self, share: _Share, now: float) -> None:
        """Looks at the next two that would make room.

        What has died goes, what lives goes to the end of the row.
        """
        for key in list(_first_two(share.fleeting)):
            if share.fleeting[key].expires_at <= now:
                self.remove(key)
            else:
                share.fleeting[key] = share.fleeting.pop(key)

    def _make_room(self, share: _Share, now: float) -> bool:
        victim = next(iter(share.fleeting), None)
        if victim is not None:
            self.remove(victim)
        elif now - share.swept_at >= SWEEP_INTERVAL:
            share.swept_at = now
            for key in [key for key, flow in self._flows.items() if flow.expires_at <= now]:
                self.remove(key)
        return share.n < share.limit


def _first_two(row: dict[bytes, Flow]) -> Iterator[bytes]:
    for _, key in zip(range(2), row, strict=False):
        yield key
