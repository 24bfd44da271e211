"""The table of peers, on a literal clock: who is new, who has changed, whose endpoint is due."""

from dataclasses import replace
from ipaddress import IPv6Address
from random import Random
from uuid import UUID

import pytest

from coderd.magicsock.peer_map import PeerMap
from coderd.magicsock.peers import Peers
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.punching import Punching
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NodeKind, Peer
from coderd.model.transport import SocketId

T = 1000.0
ALICE, BOB = NodePublic(b"a" * 32), NodePublic(b"b" * 32)
ONE, TWO = DiscoPublic(b"1" * 32), DiscoPublic(b"2" * 32)
ADDR = ("198.51.100.1", 41641)


def peer(key: NodePublic = ALICE, disco: DiscoPublic = ONE) -> Peer:
    return Peer(
        node_id=UUID(hex=key.hex()[:32]),
        kind=NodeKind.WORKSPACE,
        name="team/dev",
        node_key=key,
        disco_key=disco,
        address=IPv6Address("fd60:627a:a42b::1"),
        home_region=7,
        endpoints=(ADDR,),
        generation=1,
    )


class Table:
    """Peers, and the names that they are known by."""

    def __init__(self) -> None:
        rng, budget = Random(1).randbytes, PingBudget()
        self.names = PeerMap()
        punching = Punching(
            rng=rng, plays_birthday=False, budget=budget, is_used=lambda peer, socket, now: False
        )
        self.peers = Peers(peer_map=self.names, punching=punching, budget=budget, rng=rng, probe_size=1312)


@pytest.fixture
def table() -> Table:
    return Table()


def test_a_peer_is_changed_by_news_alone(table: Table) -> None:
    state = table.peers.set(peer(), T)
    assert state is not None
    assert table.peers.get(ALICE) is table.peers[ALICE] is state
    assert table.peers.set(peer(), T) is None
    assert table.peers.set(replace(peer(), home_region=8), T) is state
    assert [each.peer.home_region for each in table.peers] == [8]


def test_a_peer_that_is_not_kept_has_no_name_and_no_deadline(table: Table) -> None:
    for each in (peer(), peer(BOB, TWO)):
        state = table.peers.set(each, T)
        assert state is not None
        table.peers.update_deadline(state)
    table.peers.keep_only({BOB})
    assert table.peers.get(ALICE) is None
    assert (table.names.disco_of(ALICE), table.names.disco_of(BOB)) == (None, TWO)
    first = table.peers.first_due(T + 3600)
    assert first is not None
    assert first.peer.node_key == BOB


def test_a_new_start_forgets_what_the_last_one_proved(table: Table) -> None:
    state = table.peers.set(peer(), T)
    assert state is not None
    state.relay.hear(9)
    table.peers.set(replace(peer(), disco_key=TWO, generation=2), T)
    assert state.relay.heard == 0
    assert table.names.nodes_of(TWO) == (ALICE,)


def test_an_introduction_of_an_unknown_peer_is_ignored(table: Table) -> None:
    assert table.peers.introduce(peer(), T) is None
    state = table.peers.set(peer(), T)
    assert table.peers.introduce(peer(disco=TWO), T) is state
    assert table.names.disco_of(ALICE) == TWO


def test_nobody_uses_a_spare_socket_before_a_path_goes_by_it(table: Table) -> None:
    table.peers.set(peer(), T)
    assert not table.peers.uses(ALICE, SocketId(3), T)
    assert not table.peers.uses(BOB, SocketId(3), T)
