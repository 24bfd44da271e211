"""Who came, who went and who is lost between two NetMaps."""

from dataclasses import replace

import pytest

from coderd.daemon.presence import LOST_PEER_TIMEOUT, Arrival, Departure, changes, lost_peers
from coderd.model.netmap import NetMap, Peer
from tests.shell.daemon_world import make_netmap, make_peer

DEV = make_peer("ann/dev", 1)
AWAY = replace(DEV, online=False)
AGAIN = replace(DEV, generation=DEV.generation + 1)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, [DEV], [Arrival(DEV)]),
        (None, [AWAY], []),
        ([], [DEV], [Arrival(DEV)]),
        ([AWAY], [DEV], [Arrival(DEV)]),
        ([DEV], [DEV], []),
        ([DEV], [AGAIN], [Arrival(AGAIN)]),
        ([DEV], [AWAY], [Departure(DEV, is_lost=True)]),
        ([DEV], [], [Departure(DEV, is_lost=False)]),
        ([AWAY], [], []),
    ],
)
def test_a_peer_arrives_comes_back_or_departs(
    before: list[Peer] | None, after: list[Peer], expected: list[Arrival | Departure]
) -> None:
    earlier: NetMap | None = make_netmap(*before) if before is not None else None
    assert list(changes(earlier, make_netmap(*after))) == expected


@pytest.mark.parametrize(
    ("peer", "handshake_at", "is_lost"),
    [
        (DEV, None, False),
        (AWAY, None, True),
        (AWAY, 1000.0, False),
        (AWAY, 1000.0 - LOST_PEER_TIMEOUT + 1, False),
        (AWAY, 1000.0 - LOST_PEER_TIMEOUT, True),
    ],
)
def test_an_offline_peer_is_lost_once_its_tunnel_is_old(
    peer: Peer, handshake_at: float | None, is_lost: bool
) -> None:
    lost = lost_peers(make_netmap(peer), {peer.node_key: handshake_at}.get, 1000.0)
    assert lost == ({peer.node_id} if is_lost else set())
