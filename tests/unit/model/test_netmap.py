"""The NetMap: finding the peer that a person means."""

from dataclasses import replace
from ipaddress import IPv6Address
from uuid import UUID

import pytest

from coderd.model.derpmap import DerpMap
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import AbsentNode, NetMap, NodeKind, Peer, SelfNode


def peer(number: int, name: str) -> Peer:
    return Peer(
        node_id=UUID(int=number),
        kind=NodeKind.WORKSPACE,
        name=name,
        node_key=NodePublic(bytes([number]) * 32),
        disco_key=DiscoPublic(bytes([number]) * 32),
        address=IPv6Address(number),
        home_region=999,
        endpoints=(),
        generation=1,
    )


def netmap(*names: str) -> NetMap:
    own = SelfNode(UUID(int=99), NodeKind.DEVICE, "ada/laptop", IPv6Address(99))
    peers = [peer(number, name) for number, name in enumerate(names, start=1)]
    return NetMap(own, DerpMap(), {found.node_id: found for found in peers})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("dev", ["ada/dev"]),
        ("bob/dev", ["bob/dev"]),
        ("lab", []),
        ("ada/dev", ["ada/dev"]),
        ("test", ["ada/test"]),
        ("ada", []),
        ("", []),
        ("de", []),
        ("/dev", []),
        ("bob/test", []),
    ],
)
def test_a_bare_name_is_ones_own_or_nobodys(name: str, found: list[str]) -> None:
    assert [peer.name for peer in netmap("ada/dev", "ada/test", "bob/dev", "bob/lab").find(name)] == found


def test_a_name_without_an_owner_is_found_by_the_whole_of_it() -> None:
    assert [peer.name for peer in netmap("solo").find("solo")] == ["solo"]
    assert netmap("solo").find("") == []


def test_who_else_bears_a_name_is_known_and_never_meant() -> None:
    seen = netmap("bob/dev", "eve/dev", "eve/devil")
    assert seen.find("dev") == []
    assert not seen.is_absent("dev")
    assert seen.of_others("dev") == ["bob/dev", "eve/dev"]
    assert seen.of_others("") == seen.of_others("bob/dev") == []


def test_ones_own_is_meant_also_while_it_is_away() -> None:
    away = AbsentNode(UUID(int=50), NodeKind.WORKSPACE, "ada/dev", IPv6Address(50))
    seen = replace(netmap("bob/dev"), absent={away.node_id: away})
    assert seen.find("dev") == []
    assert seen.is_absent("dev")
    assert not seen.is_absent("bob/dev")
    assert not replace(seen, self_node=replace(seen.self_node, name="laptop")).is_absent("dev")
