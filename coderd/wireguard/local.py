"""State that all peers of a device share."""

from collections import deque
from typing import NamedTuple

from coderd.metrics import Counters
from coderd.model import RandomBytes
from coderd.model.keys import NodePublic
from coderd.wireguard.index_table import IndexTable
from coderd.wireguard.keypair import Keypair
from coderd.wireguard.noise import Identity
from coderd.wireguard.status import Event
from coderd.wireguard.tai64n import TimestampClock


class IndexEntry(NamedTuple):
    """Entry of the index table: what an index of this end stands for.

    Attributes:
        key: the peer's public key.
        keypair: one of the peer's sessions, or None for its pending handshake.
    """

    key: NodePublic
    keypair: Keypair | None


class Local:
    """State that a device shares with its peers: identity, indices, clock, counters, queued events."""

    def __init__(
        self, *, rng: RandomBytes, clock: TimestampClock, indices: IndexTable[IndexEntry], counters: Counters
    ) -> None:
        self.rng = rng
        self.clock = clock
        self.indices = indices
        self.counters = counters
        self.events: deque[Event] = deque()
        self.identity: Identity | None = None
        self.mtu = 0
        self.is_up = False
