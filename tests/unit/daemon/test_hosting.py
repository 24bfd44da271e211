"""Who is served inside the tunnel, by the newest map."""

from dataclasses import replace

import pytest

from coderd.daemon.hosting import Hosting
from coderd.model.netmap import AbsentNode, NodeKind, PeerAccess
from coderd.netcheck import Facts
from tests.shell.daemon_world import make_netmap, make_peer

PHONE = make_peer("bob/phone", 3, kind=NodeKind.DEVICE)
AWAY = AbsentNode(PHONE.node_id, PHONE.kind, PHONE.name, PHONE.address)


async def anybody(peer: object, shown: str) -> bool:
    return True


async def no_facts(peer: object) -> Facts:
    return Facts(udp=True)


@pytest.mark.parametrize(
    ("access", "may"),
    [
        (PeerAccess(), True),
        (PeerAccess(terminal=False), False),
        (PeerAccess(terminal=False, is_server=True), True),
    ],
)
def test_a_shell_goes_on_while_the_share_has_terminals(access: PeerAccess, may: bool) -> None:
    hosting = Hosting(no_facts, anybody, lambda: False)
    hosting.netmap = make_netmap(replace(PHONE, access=access), kind=NodeKind.WORKSPACE)
    assert hosting.may_have_terminal(PHONE.node_id) is may


def test_who_is_away_may_come_back_and_nobody_where_the_server_is_silent_for_too_long() -> None:
    is_cut_off = False
    hosting = Hosting(no_facts, anybody, lambda: is_cut_off)
    assert hosting.standing(PHONE.node_id) is None
    hosting.netmap = make_netmap(kind=NodeKind.WORKSPACE, absent=(AWAY,))
    assert hosting.standing(PHONE.node_id) == AWAY
    assert hosting.may_have_terminal(PHONE.node_id)
    hosting.netmap = make_netmap(kind=NodeKind.WORKSPACE, absent=(replace(AWAY, terminal=False),))
    assert not hosting.may_have_terminal(PHONE.node_id)
    is_cut_off = True
    assert hosting.standing(PHONE.node_id) is None
    assert not hosting.may_have_terminal(PHONE.node_id)
