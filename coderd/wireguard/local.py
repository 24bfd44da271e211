"""What all peers of a device share."""

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
    """What a session index of ours stands for.

    Attributes:
        key: the peer's.
        keypair: one of its sessions, or None for its pending handshake.
    """

    key: NodePublic
    keypair: Keypair | None


class Local:
    """The device's side of every peer. The device owns it; a peer draws from it and reports to it."""

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
