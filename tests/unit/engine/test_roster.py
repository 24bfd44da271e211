"""What a NetMap means to WireGuard."""

from ipaddress import IPv6Address
from random import Random
from typing import Any

import pytest

from coderd.engine.introduction import Introduced
from coderd.engine.roster import Roster
from coderd.metrics import Counters
from coderd.model.derpmap import DerpMap
from coderd.model.keys import DiscoPrivate
from coderd.model.netmap import NetMap, NodeKind, SelfNode
from coderd.wireguard import Device
from tests.shell.daemon_world import make_peer
from tests.sim.world.node import node_id


class Paths:
    """Learns nothing."""

    def set_netmap(self, peers: object, now: float) -> None:
        """Peers are of no matter here."""

    def introduce(self, peer: object, now: float) -> None:
        """Nor is who they are this time."""


def test_the_map_says_the_one_address_that_packets_may_be_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(1)
    device = Device(rng=rng.randbytes, now=0.0)
    addresses: list[bytes | None] = []
    monkeypatch.setattr(device, "set_own_address", addresses.append)
    paths: Any = Paths()
    roster = Roster(
        device,
        paths,
        disco_key=DiscoPrivate.generate(rng.randbytes).public(),
        generation=1,
        rng=rng.randbytes,
        counters=Counters(),
    )
    address = IPv6Address("fd60:627a:a42b::2")
    me = SelfNode(node_id(rng), NodeKind.WORKSPACE, "ann/dev", address)
    roster.set_netmap(NetMap(me, DerpMap()), 0.0, 1e9)
    assert addresses == [address.packed]


FLAPPING = 500


def test_a_peer_that_says_again_and_again_that_it_restarted_changes_little() -> None:
    rng = Random(1)
    device = Device(rng=rng.randbytes, now=0.0)
    counters = Counters()
    paths: Any = Paths()
    key = DiscoPrivate.generate(rng.randbytes).public()
    roster = Roster(device, paths, disco_key=key, generation=1, rng=rng.randbytes, counters=counters)
    phone = make_peer("ann/phone", 3, kind=NodeKind.DEVICE)
    me = SelfNode(node_id(rng), NodeKind.WORKSPACE, "ann/dev", IPv6Address("fd60:627a:a42b::2"))
    roster.set_netmap(NetMap(me, DerpMap(), {phone.node_id: phone}), 0.0, 1e9)
    changes = [
        roster.handle_event(Introduced(phone.node_key, phone.disco_key, 7 + n % 2), n / FLAPPING, 1e9)
        for n in range(10 * FLAPPING)
    ]
    assert 3 <= sum(change is not None for change in changes) <= 6
    assert counters["engine.drop.introduced_rate"] > 4 * FLAPPING
    later = roster.handle_event(Introduced(phone.node_key, key, 9), 100.0, 1e9)
    assert later is not None
    assert later.generation == 9


def test_what_is_said_already_is_no_change_however_often() -> None:
    rng = Random(1)
    counters = Counters()
    paths: Any = Paths()
    phone = make_peer("ann/phone", 3, kind=NodeKind.DEVICE)
    roster = Roster(
        Device(rng=rng.randbytes, now=0.0),
        paths,
        disco_key=phone.disco_key,
        generation=1,
        rng=rng.randbytes,
        counters=counters,
    )
    me = SelfNode(node_id(rng), NodeKind.WORKSPACE, "ann/dev", IPv6Address("fd60:627a:a42b::2"))
    roster.set_netmap(NetMap(me, DerpMap(), {phone.node_id: phone}), 0.0, 1e9)
    for _ in range(FLAPPING):
        same = Introduced(phone.node_key, phone.disco_key, phone.generation)
        assert roster.handle_event(same, 1.0, 1e9) is None
    assert counters["engine.drop.introduced_rate"] == 0
