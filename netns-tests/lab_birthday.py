"""Birthdays in the laboratory.

Random ports on one side, filtering by port on the other, ``--birthday`` on both.

The oracle foretells the relay for such pairs, since nobody plays by default; so these are reported apart::

    .venv/bin/python netns-tests/lab_birthday.py 20
"""

import statistics
import sys
import time
from collections.abc import Iterator, Sequence

from lab import Lab, LabError, Site, Topology
from lab.topology import EASY, HARD

TOPOLOGY = Topology("a birthday", user=Site(HARD), dev=Site(EASY))
PATIENCE = 30.0
"""Seconds for one try: a second birthday comes only after two minutes."""


def birthday() -> float | None:
    """Seconds from when the user had dev online until both ends were direct, in one try.

    None where they were not.
    """
    with Lab(TOPOLOGY) as lab:
        lab.server.start()
        lab.dev.join_as_workspace(lab.server.url, lab.server.create_workspace("dev"), "--birthday")
        lab.user.host.environment["CODER_URL"] = lab.server.url
        lab.user.join_as_user(lab.server.url, lab.server.admin_token, "--birthday")
        lab.user.wait_for_peer("dev")
        began = time.monotonic()
        try:
            lab.user.wait_for_path("dev", "direct", timeout=PATIENCE)
            lab.dev.wait_for_path("user", "direct", timeout=PATIENCE)
        except LabError:
            return None
        return time.monotonic() - began


def birthdays(tries: int) -> Iterator[float | None]:
    """So many tries, each in a laboratory of its own."""
    for _ in range(tries):
        yield birthday()


def section(results: Sequence[float | None]) -> str:
    """What a report says of them."""
    times = sorted(seconds for seconds in results if seconds is not None)
    text = f"{TOPOLOGY.user.nat} against {TOPOLOGY.dev.nat if TOPOLOGY.dev else None}: "
    text += f"{len(times)} of {len(results)} tries went direct"
    return (
        f"{text}, after {statistics.median(times):.1f} s (median; {times[0]:.1f} to {times[-1]:.1f})."
        if times
        else f"{text}."
    )


if __name__ == "__main__":
    print(section(list(birthdays(int(sys.argv[1]) if len(sys.argv) > 1 else 10))))
