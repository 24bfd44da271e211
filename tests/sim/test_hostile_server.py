"""What a hostile server can make of a node by what it says: ARCHITECTURE.md has the table."""

from uuid import UUID

import pytest

from coderd.coordination.message import PeerEntry, Peers, SelfEntry, ServerMessage, Welcome
from coderd.identity.people import Node as Identity
from coderd.identity.people import User
from coderd.model.addresses import tailnet_address
from coderd.model.keys import DiscoPrivate, NodePrivate
from coderd.model.netmap import NodeKind
from tests.sim.world import World
from tests.sim.world.node import Process

ME, PEER = UUID(int=1), UUID(int=2)
PEER_KEY = NodePrivate(b"p" * 32)


class HostileWorld(World):
    """A server that says the same messages to each node that joins."""

    def __init__(self, messages: list[ServerMessage]) -> None:
        super().__init__()
        self._messages = messages

    def introduce(self, process: Process) -> None:
        """Says its messages, and nothing else."""
        for message in self._messages:
            self._tell(process, message)


def welcome(node_id: UUID = ME, address: str = "") -> Welcome:
    me = SelfEntry(node_id, "device", "ann/laptop", address or str(tailnet_address(node_id)))
    region = {"RegionID": 7, "RegionCode": "evil", "Nodes": [{"Name": "7a", "RegionID": 7}]}
    return Welcome(me, {"Regions": {"7": region}}, "resume", embedded_region=0)


def peer(node_id: UUID = PEER, address: str = "") -> PeerEntry:
    return PeerEntry(
        node_id,
        "workspace",
        "ann/dev",
        PEER_KEY.public().text,
        DiscoPrivate(b"p" * 32).public().text,
        address or str(tailnet_address(node_id)),
        999,
        7,
    )


@pytest.mark.parametrize(
    "messages",
    [
        [welcome(address="::1")],
        [welcome(address="192.168.1.1")],
        [welcome(address=str(tailnet_address(PEER)))],
        [welcome(), Peers([peer(address="2001:db8::1")])],
        [welcome(), Peers([peer(address="::1")])],
        [welcome(), Peers([peer(ME)])],
    ],
    ids=["loopback", "LAN", "another's", "a route elsewhere", "a route to loopback", "itself as a peer"],
)
def test_an_address_that_no_id_of_the_tailnet_derives_changes_nothing(messages: list[ServerMessage]) -> None:
    world = HostileWorld(messages)
    identity = Identity(ME, NodeKind.DEVICE, "laptop", User(UUID(int=3), "ann"), 0.0)
    node = world.add_node(identity, None, world.rng, key=NodePrivate(b"k" * 32))
    node.start()
    process = node.running
    world.until(lambda: len(process.failures) >= 2)
    assert all("message is invalid" in reason for reason in process.failures)
    netmap = process.core.netmap
    assert netmap is None or (netmap.peers, netmap.self_node.address) == ({}, tailnet_address(ME))
    assert process.core.wireguard(PEER_KEY.public(), world.now) is None


def test_an_honest_server_is_believed() -> None:
    """So that the test above cannot pass because a node believes nothing at all."""
    world = HostileWorld([welcome(), Peers([peer()])])
    identity = Identity(ME, NodeKind.DEVICE, "laptop", User(UUID(int=3), "ann"), 0.0)
    node = world.add_node(identity, None, world.rng, key=NodePrivate(b"k" * 32))
    node.start()
    world.until(lambda: node.sees("ann/dev"))
    assert node.running.failures == []
    assert node.running.core.wireguard(PEER_KEY.public(), world.now) is not None
