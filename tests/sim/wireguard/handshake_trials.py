"""How long a first handshake takes where a fifth of all datagrams is lost each way: a hundred seeded trials, as a table.

``python -m tests.sim.wireguard.handshake_trials`` writes ``docs/wireguard-handshake.md``; a test holds it to that.
"""

import sys
from pathlib import Path
from statistics import median
from typing import NamedTuple

from coderd.wireguard import HandshakeCompleted
from tests.sim.net import Wire
from tests.sim.wireguard.net import INITIATION, Net

DOCUMENT = Path(__file__).parents[3] / "docs" / "wireguard-handshake.md"
LOSSES = (0.0, 0.05, 0.2, 0.4)
N_TRIALS = 100
ONE_WAY = 0.02
GIVES_UP_AFTER = 100.0


class Trial(NamedTuple):
    """One first handshake."""

    seconds: float | None
    """From the first packet to the initiator's session; None if it never came."""
    n_initiations: int


def trial(loss: float, seed: int) -> Trial:
    """One packet wants to go from ``a`` to ``b``, who have never spoken."""
    net = Net(seed=seed, wire=Wire(loss=loss, delay=ONE_WAY))
    net.send("a", 1)
    net.run_until(GIVES_UP_AFTER)
    completed = net.a.events_of(HandshakeCompleted)
    first = completed[0] if completed else None
    return Trial(first, sum(at <= (first or GIVES_UP_AFTER) for at in net.seen("a", INITIATION)))


def row(loss: float) -> str:
    """A line of the table."""
    trials = [trial(loss, seed) for seed in range(N_TRIALS)]
    times = sorted(each.seconds for each in trials if each.seconds is not None)
    tries = [sum(each.n_initiations == n for each in trials if each.seconds is not None) for n in (1, 2, 3)]
    later = len(times) - sum(tries)
    spans = [median(times), times[len(times) * 9 // 10], times[-1]]
    cells = [f"{loss:.0%}", *map(str, tries), str(later), str(N_TRIALS - len(times))]
    return "| " + " | ".join(cells + [f"{span:.2f} s" for span in spans]) + " |"


def document() -> str:
    """The whole page."""
    rows = "\n".join(row(loss) for loss in LOSSES)
    return f"""# A first handshake over a network that loses packets

{N_TRIALS} trials for each rate of loss, in simulation: two nodes that have never spoken, {ONE_WAY * 1000:.0f} ms from each other, every
datagram lost with the given probability, each way by itself. The clock is virtual and every trial has a seed, so the
numbers are the same on every machine. `python -m tests.sim.wireguard.handshake_trials` writes this page.

The first columns say with which of its initiations the initiator got its session; the last ones how long that took from
the first packet. WireGuard repeats a lost handshake after 5 s and up to a third of a second more, so a loss costs that
and not less. The initiator's packet waits meanwhile and goes with the session.

| loss each way | 1st | 2nd | 3rd | later | never | median | 90 % | longest |
|---|---|---|---|---|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    DOCUMENT.write_text(document())
    sys.stdout.write(document())
