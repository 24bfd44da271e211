"""Twenty thousand initiations at a tunnel's end, half of them with a true MAC1.

Whoever had a session keeps it.
"""

from base64 import b64decode

import pytest
from flood import Flood, ping
from lab import Lab
from tunnels import NO_ANSWERS, End, connect, outer_addresses, start_ours, start_theirs

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow, pytest.mark.alone("floods a daemon")]

N_INITIATIONS = 20_000
N_PINGS = 40


def test_a_session_keeps_its_pings_through_a_flood_and_nobody_shakes_hands_anew() -> None:
    with Lab(NO_ANSWERS[4]) as lab:
        ours, theirs = End(lab.user.host, "ours0", 0), End(lab.dev.host, "wg0", 1)
        for end in (ours, theirs):
            (end.outer,) = outer_addresses(end.host, 4)
        start_ours(ours.host, ours.interface)
        theirs.daemon = start_theirs(theirs.host, theirs.interface)
        connect(ours, theirs)
        ours.ping(theirs)
        handshake = ours.show("latest-handshakes")
        eve = lab.add_host("eve")
        with Flood(eve, ours.outer, b64decode(ours.public), n=N_INITIATIONS, rate=10_000):
            felt = ping(ours, theirs, N_PINGS)
        assert felt.n_answered >= 0.9 * N_PINGS
        assert ours.show("latest-handshakes") == handshake
        assert ping(theirs, ours, 5).n_answered == 5
