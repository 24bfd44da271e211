"""What a NetMap means to WireGuard."""

from ipaddress import IPv6Address
from random import Random
from typing import Any

from coderd.engine.roster import Roster
from coderd.model.derpmap import DerpMap
from coderd.model.keys import DiscoPrivate
from coderd.model.netmap import NetMap, NodeKind, SelfNode
from coderd.wireguard import Device
from tests.sim.world.node import node_id


class Paths:
    """Learns nothing."""

    def set_netmap(self, peers: object, now: float) -> None:
        """Peers are of no matter here."""


def test_the_map_says_the_one_address_that_packets_may_be_for():
    rng = Random(1)
    device = Device(rng=rng.randbytes, now=0.0)
    paths: Any = Paths()
    roster = Roster(device, paths, disco_key=DiscoPrivate.generate(rng.randbytes).public(), generation=1)
    address = IPv6Address("fd60:627a:a42b::2")
    me = SelfNode(node_id(rng), NodeKind.WORKSPACE, "ann/dev", address)
    roster.set_netmap(NetMap(me, DerpMap()), 0.0, 1e9)
    assert device.own_address == address.packed
