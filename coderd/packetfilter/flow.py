"""One flow, and the bounded flow table of one peer.

A flow's key is its protocol, this node's port and the peer's port: ``protocol(1) port(2) port(2)``. ICMPv6
echo has the identifier in place of the ports, and a fragmented packet its fragment identification.

A table has two shares, each with its own limit: flows that the peer opened, and flows that this node opened.
A peer that fills its share evicts neither flows of other peers, which have tables of their own, nor flows
that this node opened. In a full share a *fleeting* flow (any but established TCP) is evicted, the longest
untouched of those first; where every flow is established TCP, the new one is refused.
"""

from collections.abc import Callable, Iterator

from coderd.packet import PROTOCOL_TCP, PROTOCOL_UDP

MAX_FLOWS_OF_PEER = 4096
"""Most flows in a peer's table that the peer opened."""
MAX_FLOWS_TO_PEER = 16_384
"""Most flows in a peer's table that this node opened."""
OPENING_LIFETIME = 150.0
"""Seconds that a TCP connection not yet established may be silent: longer than Linux repeats a SYN (127
s)."""
ESTABLISHED_LIFETIME = 5 * 86_400.0
"""Seconds that an established TCP connection may be silent, as in Linux's own connection tracking."""
CLOSING_LIFETIME = 120.0
"""Seconds that a closed TCP connection outlives its last packet: one maximum segment lifetime (RFC 9293,
3.4.2)."""
ENDED_LIFETIME = 8 * 3600.0
"""Seconds since its last packet that a TCP flow no longer allowed is kept shut: longer than both kernels
retransmit."""
UDP_LIFETIME = 300.0
"""Seconds that a UDP flow outlives its last packet: the five minutes that RFC 4787 (REQ-5) recommends."""
ECHO_LIFETIME = 60.0
FRAGMENT_LIFETIME = 30.0
"""Seconds in which the later fragments of an admitted first fragment pass; Linux reassembles within 60."""
SWEEP_INTERVAL = 60.0
"""Least seconds between two sweeps of a share full of established flows for expired ones."""

OURS, THEIRS = 1, 2
"""Bits of ``Flow.fins``: this node has sent a FIN, the peer has sent one."""


class Flow:
    """State of one flow, as its packets have shown it so far; only the filter changes it."""

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
        """Whether the peer opened the flow; a guess where the first packet seen does not show it."""
        self.is_ended = is_ended
        """Whether the policy no longer allows the flow: its packets are dropped in both directions."""
        self.is_established = False
        """TCP only: the peer has sent a segment after this node had sent one."""
        self.is_closing = False
        self.has_sent = False
        """TCP only: this node has sent a segment of the flow."""
        self.fins = 0
        self.lifetime = lifetime
        """Seconds that the flow outlives its last packet."""
        self.expires_at = 0.0

    def touch(self, now: float) -> None:
        """Notes that a packet of the flow passed."""
        self.expires_at = now + self.lifetime


class _Share:
    """Flows that one end opened: their number and limit, and those that may be evicted, in that order."""

    __slots__ = ("fleeting", "limit", "n", "swept_at")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.n = 0
        self.fleeting: dict[bytes, Flow] = {}
        self.swept_at = float("-inf")


class FlowTable:
    """Bounded flow table of one peer."""

    def __init__(self) -> None:
        self._flows: dict[bytes, Flow] = {}
        self._ours, self._theirs = _Share(MAX_FLOWS_TO_PEER), _Share(MAX_FLOWS_OF_PEER)

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[tuple[bytes, Flow]]:
        return iter(self._flows.items())

    def find(self, key: bytes, now: float) -> Flow | None:
        """Returns the flow of a key; None if there is none or it has expired."""
        flow = self._flows.get(key)
        if flow is not None and flow.expires_at <= now:
            self.remove(key)
            return None
        return flow

    def open(self, key: bytes, flow: Flow, now: float) -> bool:
        """Adds a flow, in place of one with the same key.

        Returns False where its share is full of established flows.
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
        """Marks a TCP flow established: it lives ``ESTABLISHED_LIFETIME`` and is not evicted."""
        flow.is_established, flow.lifetime = True, ESTABLISHED_LIFETIME
        self._share_of(flow).fleeting.pop(key, None)

    def close(self, key: bytes, flow: Flow) -> None:
        """Marks a TCP flow closed: late segments pass for ``CLOSING_LIFETIME``, and it may be evicted."""
        flow.is_closing, flow.is_established, flow.lifetime = True, False, CLOSING_LIFETIME
        self._share_of(flow).fleeting[key] = flow

    def remove(self, key: bytes) -> None:
        """Removes the flow of a key, if there is one, and expires it."""
        flow = self._flows.pop(key, None)
        if flow is not None:
            flow.expires_at = float("-inf")  # the filter may hold it as the last packet's flow
            share = self._share_of(flow)
            share.fleeting.pop(key, None)
            share.n -= 1

    def hold_to(self, accepts: Callable[[int, int], bool], now: float) -> None:
        """Applies a changed policy to the flows that the peer opened.

        TCP and UDP flows that are refused now are kept, shut; shut flows that are accepted again are removed,
        so that they can be opened anew; flows of other protocols are removed.
        """
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
        """Checks the next two candidates for eviction: removes expired ones, moves live ones to the end."""
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
