"""When each node shall come back to a server that ends: spread, so that a thousand do not knock in one moment. Pure."""

from collections.abc import Iterator
from typing import Final

from coderd.coordination.message import Reconnect
from coderd.model import RandomBytes

EARLIEST_MS: Final = 500
"""A process needs that long to end and to start again."""
PER_NODE_MS: Final = 2
"""What letting a node in costs: a crowd that comes no faster is let in as it comes, and nobody's patience ends at the door."""
MAX_SPREAD_MS: Final = 10_000
"""Whatever the crowd, nobody waits longer for the network's news."""
_STEPS: Final = 1 << 32


def farewells(n_nodes: int, rng: RandomBytes) -> Iterator[Reconnect]:
    """One for each node, without end: at random within a time that grows with their number."""
    spread = min(MAX_SPREAD_MS, PER_NODE_MS * n_nodes)
    while True:
        yield Reconnect(EARLIEST_MS + spread * int.from_bytes(rng(4), "big") // _STEPS)
