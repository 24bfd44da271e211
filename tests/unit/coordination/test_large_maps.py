"""A map of however many peers goes out in messages that a node can read, and is kept."""

from dataclasses import replace
from uuid import UUID

import pytest
from msgspec.structs import replace as replace_struct

from coderd.config.url import parse_server_url
from coderd.coordination import saved_netmap
from coderd.coordination.message import (
    MAX_ENDPOINTS,
    MAX_ENTRIES,
    MAX_SERVER_MESSAGE,
    Absence,
    Endpoint,
    PeerEntry,
    Peers,
    Removal,
    SelfEntry,
    Update,
    Welcome,
    encode_message,
    parse_server_message,
)
from coderd.coordination.netmap_client import NetMapClient
from coderd.coordination.parcel import Parcel
from coderd.coordination.registry import Registry
from coderd.coordination.saved_netmap import decode_netmap, encode_netmap
from coderd.coordination.viewer import HOLD, NodeFacts, Viewer, _full_messages
from coderd.identity.people import Node, User
from coderd.model import limits
from coderd.model.addresses import tailnet_address
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NetMap, NodeKind

ANN = User(UUID(int=101), "a" * 63)
LAPTOP = Node(UUID(int=2), NodeKind.DEVICE, "laptop", ANN, 0.0)
URL = "http://10.0.0.1:3000"
ENDPOINTS = [
    Endpoint(f"[2001:db8:ffff:ffff:ffff:ffff:ffff:{number:x}]:41641")
    for number in range(0x1000, 0x1000 + MAX_ENDPOINTS)
]


class Crowd:
    """A device whose user has many workspaces, each at as many addresses as it may name."""

    def __init__(self, n_workspaces: int, n_endpoints: int = 1) -> None:
        self.endpoints = ENDPOINTS[:n_endpoints]
        self.registry = Registry()
        self.now = 0.0
        self.spaces = [
            Node(UUID(int=number), NodeKind.WORKSPACE, f"{'w' * 57}{number}", ANN, 0.0)
            for number in range(1000, 1000 + n_workspaces)
        ]
        self.laptop = self.join(LAPTOP, partners=self.spaces)
        self.client = NetMapClient(parse_server_url(URL))
        me = SelfEntry(LAPTOP.node_id, "device", LAPTOP.full_name, str(LAPTOP.address))
        self.client.handle_message(Welcome(me, {"Regions": {}}, "resume"))

    def join(self, node: Node, *, partners: list[Node] = []) -> Viewer:  # noqa: B006
        number = node.node_id.int
        key = number.to_bytes(32, "big")
        facts = NodeFacts(NodePublic(key), DiscoPublic(key), number, ("x" * 32,) * limits.MAX_CAPABILITIES)
        connection = self.registry.connect(node, facts, partners=partners, wake=lambda: None)
        assert self.registry.update(connection, Update(home_region=1, endpoints=self.endpoints), 0.0) is None
        return connection

    def tell(self) -> list[Peers]:
        """All that the device is owed, read as it reads it."""
        said = []
        for _ in range(2):
            while (message := self.registry.poll(self.laptop, self.now)) is not None:
                text = encode_message(message)
                assert len(text) < MAX_SERVER_MESSAGE
                read = parse_server_message(text)
                assert isinstance(read, Peers)
                self.client.handle_message(read)
                said.append(read)
            self.now += 2 * HOLD
        return said

    @property
    def netmap(self) -> NetMap:
        assert self.client.netmap is not None
        return self.client.netmap


@pytest.mark.slow
def test_a_map_of_3000_comes_through_and_its_changes_too() -> None:
    n_workspaces = 3_000
    crowd = Crowd(n_workspaces)
    absent = crowd.tell()
    assert len(crowd.netmap.absent) == n_workspaces
    connections = [crowd.join(space) for space in crowd.spaces]
    crowd.tell()
    assert len(crowd.netmap.peers) == n_workspaces
    assert all(peer.online for peer in crowd.netmap.peers.values())
    assert all(message.more for message in absent[:-1])

    again = Crowd(0)
    again.registry, again.laptop = crowd.registry, crowd.join(LAPTOP, partners=crowd.spaces)
    full = again.tell()
    assert [message.full for message in full] == [True] * len(full)
    assert again.netmap.peers == crowd.netmap.peers

    for connection in connections:
        crowd.registry.lost(connection)
    again.tell()
    assert not any(peer.online for peer in again.netmap.peers.values())


@pytest.mark.slow
def test_a_map_of_20000_comes_through() -> None:
    crowd = Crowd(0)
    ordinary = replace_struct(
        entry(1), endpoints=["192.0.2.1:41641"], name="ann/dev", ports="all", capabilities=[], signature=None
    )
    entries = [
        replace_struct(ordinary, id=UUID(int=number), address=str(tailnet_address(UUID(int=number))))
        for number in range(1_000, 21_000)
    ]
    texts = [encode_message(message) for message in _full_messages(entries, [], [])]
    assert max(map(len, texts)) < MAX_SERVER_MESSAGE
    for text in texts:
        crowd.client.handle_message(parse_server_message(text))
    assert len(crowd.netmap.peers) == 20_000
    kept = decode_netmap(encode_netmap(crowd.netmap), URL)
    assert kept is not None
    assert kept.peers.keys() == crowd.netmap.peers.keys()


def entry(number: int) -> PeerEntry:
    """As large as an entry may be."""
    node_id = UUID(int=number)
    return PeerEntry(
        id=node_id,
        kind="workspace",
        name="\x01" * 130,
        node_key=NodePublic(bytes(32)).text,
        disco_key=DiscoPublic(bytes(32)).text,
        address=str(tailnet_address(node_id)),
        home_region=65535,
        generation=2**64 - 1,
        endpoints=["x" * 80] * MAX_ENDPOINTS,
        ports=",".join(["65535-65535"] * 60),
        capabilities=["\x01" * 32] * limits.MAX_CAPABILITIES,
        signature="\x01" * 1024,
    )


def test_a_parcel_of_the_largest_entries_is_one_that_a_node_reads() -> None:
    parcels = [Parcel()]
    wanted = [entry(number) for number in range(MAX_ENTRIES)]
    for each in wanted:
        if not parcels[-1].add(each, Removal(each.id, "x" * 130), Absence(each.id, "x" * 130, "\x01" * 130)):
            parcels.append(Parcel())
            assert parcels[-1].add(each)
    texts = [encode_message(parcel.message()) for parcel in parcels]
    assert len(texts) > 1
    assert max(map(len, texts)) < MAX_SERVER_MESSAGE
    assert [each.id for parcel in parcels for each in parcel.message().upsert] == [each.id for each in wanted]


def test_no_list_of_a_parcel_is_longer_than_a_node_reads() -> None:
    parcel = Parcel()
    taken = [parcel.add(Removal(UUID(int=number), "lost")) for number in range(MAX_ENTRIES + 1)]
    assert taken == [True] * MAX_ENTRIES + [False]
    assert parcel.add(Absence(UUID(int=1), "workspace", "ann/dev"))


@pytest.mark.slow
def test_a_map_is_kept_whatever_its_size_and_one_beyond_bounds_in_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crowd = Crowd(600, MAX_ENDPOINTS)
    crowd.tell()
    for space in crowd.spaces[:300]:
        crowd.join(space)
    crowd.tell()
    offline = next(iter(crowd.netmap.peers))
    netmap = replace(
        crowd.netmap,
        peers={
            **crowd.netmap.peers,
            offline: replace(crowd.netmap.peers[offline], online=False),
        },
    )
    assert decode_netmap(encode_netmap(netmap), URL) == netmap
    monkeypatch.setattr(saved_netmap, "MAX_SAVED", 200_000)
    data = encode_netmap(netmap)
    assert len(data) <= 200_000
    kept = decode_netmap(data, URL)
    assert kept is not None
    assert kept.self_node == netmap.self_node
    assert 30 < len(kept.peers) < 300
    assert offline not in kept.peers
    assert kept.absent == {}
