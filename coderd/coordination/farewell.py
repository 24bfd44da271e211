"""When each node shall come back to a server that ends. Pure.

The times are spread, so that a thousand nodes do not come in one moment.
"""

from collections.abc import Iterator
from typing import Final

from coderd.coordination.message import Reconnect
from coderd.model import RandomBytes

EARLIEST_MS: Final = 500
"""A process needs that long to end and to start again."""
PER_NODE_MS: Final = 2
"""Milliseconds that admitting a node takes: nodes that return no faster are admitted before they time out."""
MAX_SPREAD_MS: Final = 10_000
"""No node waits longer than this, however many there are."""
_STEPS: Final = 1 << 32


def farewells(n_nodes: int, rng: RandomBytes) -> Iterator[Reconnect]:
    """Yields a farewell for each node, without end.

    Its delay is random within a time that grows with the number of nodes.
    """
    spread = min(MAX_SPREAD_MS, PER_NODE_MS * n_nodes)
    while True:
        yield Reconnect(EARLIEST_MS + spread * int.from_bytes(rng(4), "big") // _STEPS)
