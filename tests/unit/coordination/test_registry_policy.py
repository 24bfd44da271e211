"""The registry: what becomes of those who are connected when policy changes."""

from dataclasses import replace
from uuid import UUID

import pytest
from msgspec.structs import replace as replace_struct

from coderd.config.url import parse_server_url
from coderd.coordination.message import (
    Endpoint,
    PathReport,
    Peers,
    Reconnect,
    Removal,
    SelfEntry,
    Update,
    Welcome,
)
from coderd.coordination.netmap_client import NetMapClient
from coderd.coordination.registry import DELETED, Registry
from coderd.coordination.viewer import HOLD, NodeFacts, Viewer
from coderd.identity.people import Node, Share, User
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathRule
from coderd.model.ports import ALL_PORTS, parse_ports

ANN, BOB = User(UUID(int=101), "ann"), User(UUID(int=102), "bob")
DEV = Node(UUID(int=1), NodeKind.WORKSPACE, "dev", ANN, 0.0, shares=(Share(BOB, ALL_PORTS, terminal=True),))
LAPTOP = Node(UUID(int=2), NodeKind.DEVICE, "laptop", BOB, 0.0)


class Pair:
    """A registry with a workspace and a guest's device, each of which has been told of the other."""

    def __init__(self, *, blocks_direct: bool = False) -> None:
        self.registry = Registry(blocks_direct=blocks_direct)
        self.n_rings = 0
        self.now = 0.0
        self.dev = self._join(DEV, LAPTOP)
        self.laptop = self._join(LAPTOP, DEV)
        self.say(self.dev)
        self.say(self.laptop)

    def _join(self, node: Node, partner: Node) -> Viewer:
        number = node.node_id.int
        facts = NodeFacts(NodePublic(bytes([number]) * 32), DiscoPublic(bytes([number + 9]) * 32), number)
        connection = self.registry.connect(node, facts, partners=[partner], wake=self._ring)
        update = Update(home_region=999, endpoints=[Endpoint(f"192.0.2.{number}:41641")])
        assert self.registry.update(connection, update, self.now) is None
        return connection

    def _ring(self) -> None:
        self.n_rings += 1

    def say(self, connection: Viewer) -> list[Peers]:
        """All that a connection is owed, once nothing is held back any more."""
        said = []
        for _ in range(2):
            while isinstance(message := self.registry.poll(connection, self.now), Peers):
                said.append(message)
            self.now += 2 * HOLD
        return said


def test_who_is_not_shared_with_any_more_is_removed_at_both_ends_and_leaves_no_name() -> None:
    pair = Pair()
    pair.registry.amend(replace(DEV, shares=()))
    for connection, other in ((pair.laptop, DEV), (pair.dev, LAPTOP)):
        (message,) = pair.say(connection)
        assert [(gone.id, gone.reason) for gone in message.remove] == [(other.node_id, "denied")]
        assert (message.upsert, message.absent) == ([], [])
    pair.registry.amend(DEV)
    assert [entry.id for message in pair.say(pair.laptop) for entry in message.upsert] == [DEV.node_id]
    assert [entry.id for message in pair.say(pair.dev) for entry in message.upsert] == [LAPTOP.node_id]


def test_a_guest_is_told_of_a_workspace_that_was_not_here_since_the_server_started() -> None:
    """The guest may know it, as a lost peer, from before."""
    registry = Registry()
    facts = NodeFacts(NodePublic(b"\x02" * 32), DiscoPublic(b"\x0b" * 32), 2)
    laptop = registry.connect(LAPTOP, facts, partners=[DEV], wake=lambda: None)
    assert registry.update(laptop, Update(home_region=999), 0.0) is None
    first = registry.poll(laptop, 0.0)
    assert isinstance(first, Peers)
    assert [absence.id for absence in first.absent] == [DEV.node_id]
    registry.amend(replace(DEV, shares=()))
    told = registry.poll(laptop, 0.0)
    assert isinstance(told, Peers)
    assert [(gone.id, gone.reason) for gone in told.remove] == [(DEV.node_id, "denied")]


@pytest.mark.parametrize(
    ("blocks_direct", "path", "policy"),
    [
        (False, PathRule.RELAY_ONLY, "relay-only"),
        (True, PathRule.DIRECT, "relay-only"),
        (True, PathRule.RELAY_ONLY, "relay-only"),
        (False, PathRule.DIRECT, "any"),
    ],
)
def test_the_stricter_of_deployment_and_workspace_wins(
    blocks_direct: bool, path: PathRule, policy: str
) -> None:
    pair = Pair(blocks_direct=blocks_direct)
    pair.registry.amend(replace(DEV, path=PathRule.DENY))
    pair.say(pair.laptop)
    pair.say(pair.dev)
    pair.registry.amend(replace(DEV, path=path))
    for connection in (pair.laptop, pair.dev):
        (entry,) = [entry for message in pair.say(connection) for entry in message.upsert]
        assert entry.path_policy == policy
        assert bool(entry.endpoints) == (policy == "any")


def test_a_change_that_concerns_nobody_rings_nobody() -> None:
    pair = Pair()
    before = pair.n_rings
    pair.registry.amend(Node(UUID(int=7), NodeKind.WORKSPACE, "other", ANN, 0.0))
    assert pair.n_rings == before


def test_whose_token_is_revoked_is_told_and_gone_until_it_comes_back() -> None:
    pair = Pair()
    pair.registry.expel(DEV)
    assert pair.dev.end == DELETED
    (message,) = pair.say(pair.laptop)
    assert [(gone.id, gone.reason) for gone in message.remove] == [(DEV.node_id, "denied")]
    pair.registry.lost(pair.dev)
    assert pair.say(pair.laptop) == []
    pair.dev = pair._join(DEV, LAPTOP)
    assert [entry.id for message in pair.say(pair.laptop) for entry in message.upsert] == [DEV.node_id]


def test_who_is_renamed_comes_back_for_a_new_welcome_and_peers_hear_the_name() -> None:
    pair = Pair()
    pair.registry.amend(replace(DEV, name="lab"))
    assert pair.dev.end == Reconnect(0)
    (message,) = pair.say(pair.laptop)
    assert [entry.name for entry in message.upsert] == ["ann/lab"]


def _shared(ports: str, *, terminal: bool) -> Node:
    return replace(DEV, shares=(Share(BOB, parse_ports(ports), terminal=terminal),))


def test_a_workspace_is_told_of_each_guest_what_their_share_opens_and_of_a_change_at_once() -> None:
    pair = Pair()
    before = pair.n_rings
    pair.registry.amend(_shared("22,8000-8999", terminal=False))
    assert pair.n_rings > before
    (message,) = pair.say(pair.dev)
    (entry,) = message.upsert
    assert (entry.ports, entry.terminal, entry.is_server) == ("22,8000-8999", False, False)
    assert pair.say(pair.laptop) == []  # a device decides for itself whom it admits
    pair.registry.amend(_shared("22", terminal=True))
    ((entry,),) = [message.upsert for message in pair.say(pair.dev)]
    assert (entry.ports, entry.terminal) == ("22", True)


def _map_of(pair: Pair) -> NetMapClient:
    """The workspace's map, with the guest in it."""
    core = NetMapClient(parse_server_url("http://192.0.2.1"))
    core.handle_message(
        Welcome(SelfEntry(DEV.node_id, "workspace", "ann/dev", str(DEV.address)), {"Regions": {}}, "")
    )
    pair.registry.amend(_shared("all", terminal=True))
    core.handle_message(Peers([replace_struct(pair.dev._sent[LAPTOP.node_id])]))
    pair.say(pair.dev)
    return core


@pytest.mark.parametrize("is_server_new", [False, True])
def test_who_keeps_the_tunnel_and_leaves_the_server_does_not_keep_what_their_share_has_lost(
    is_server_new: bool,
) -> None:
    """A guest that blocks its own link to the server is lost, and lost peers are kept."""
    pair = Pair()
    core = _map_of(pair)
    pair.registry.lost(pair.laptop)
    for message in pair.say(pair.dev):
        core.handle_message(message)
    if is_server_new:
        pair.registry = Registry()
        pair.dev = pair._join(_shared("22", terminal=False), LAPTOP)
    else:
        pair.registry.amend(_shared("22", terminal=False))
    for message in pair.say(pair.dev):
        core.handle_message(message)
    assert core.netmap is not None
    guest = core.netmap.peers[LAPTOP.node_id]
    assert (guest.online, str(guest.access.ports), guest.access.terminal) == (False, "22", False)


@pytest.mark.parametrize("is_server_new", [False, True])
def test_who_keeps_the_tunnel_and_leaves_the_server_is_removed_when_the_share_ends(
    is_server_new: bool,
) -> None:
    pair = Pair()
    core = _map_of(pair)
    pair.registry.lost(pair.laptop)
    if is_server_new:
        pair.registry = Registry()
        pair.dev = pair._join(DEV, LAPTOP)
    for message in pair.say(pair.dev):
        core.handle_message(message)
    assert core.netmap is not None
    assert LAPTOP.node_id in core.netmap.peers
    pair.registry.amend(replace(DEV, shares=()))
    for message in pair.say(pair.dev):
        core.handle_message(message)
    assert LAPTOP.node_id not in core.netmap.peers.keys() | core.netmap.absent.keys()


def test_shells_of_who_is_away_end_when_their_share_has_no_terminal_any_more() -> None:
    pair = Pair()
    core = _map_of(pair)
    pair.registry.goodbye(pair.laptop)
    for message in pair.say(pair.dev):
        core.handle_message(message)
    assert core.netmap is not None
    assert core.netmap.absent[LAPTOP.node_id].terminal
    pair.registry.amend(_shared("all", terminal=False))
    for message in pair.say(pair.dev):
        core.handle_message(message)
    assert not core.netmap.absent[LAPTOP.node_id].terminal


def test_a_server_of_the_last_release_says_nothing_of_who_is_away_and_changes_nothing() -> None:
    pair = Pair()
    core = _map_of(pair)
    core.handle_message(Peers(remove=[Removal(LAPTOP.node_id, "lost", "22", False)]))
    core.handle_message(Peers(remove=[Removal(LAPTOP.node_id, "lost")]))
    assert core.netmap is not None
    assert str(core.netmap.peers[LAPTOP.node_id].access.ports) == "22"


def test_a_workspace_is_told_that_its_owners_devices_reach_everything() -> None:
    pair = Pair()
    registry = pair.registry
    tablet = Node(UUID(int=3), NodeKind.DEVICE, "tablet", ANN, 0.0)
    registry.amend(_shared("none", terminal=False))
    pair.say(pair.dev)
    connection = pair._join(tablet, DEV)
    pair.say(connection)
    ((entry,),) = [message.upsert for message in pair.say(pair.dev)]
    assert (entry.id, entry.ports, entry.terminal) == (tablet.node_id, "all", True)


def test_a_workspace_is_told_which_node_is_the_servers_own() -> None:
    pair = Pair()
    server = Node(UUID(int=4), NodeKind.SERVER, "server", User(UUID(int=0), "server"), 0.0)
    pair.say(pair._join(server, DEV))
    pair.registry.meet(DEV)
    ((entry,),) = [message.upsert for message in pair.say(pair.dev)]
    assert (entry.id, entry.kind, entry.is_server) == (server.node_id, "device", True)


def test_who_has_a_tunnel_to_a_workspace_is_known_with_its_age() -> None:
    pair = Pair()
    report = PathReport(LAPTOP.node_id, "relay", region=999, since=5.0)
    update = Update(home_region=999, endpoints=[Endpoint("192.0.2.1:41641")], path_reports=[report])
    pair.registry.path_reports.take(pair.dev, update, 100.0)
    assert list(pair.registry.path_reports.tunnels(DEV, 101.0)) == [(LAPTOP, "relay", 6.0)]
    direct = replace_struct(update, path_reports=[PathReport(LAPTOP.node_id, "direct", since=1.0)])
    pair.registry.path_reports.take(pair.dev, direct, 110.0)
    assert list(pair.registry.path_reports.tunnels(DEV, 110.0)) == [(LAPTOP, "direct", 15.0)]
    gone = replace_struct(update, path_reports=[PathReport(LAPTOP.node_id, "none")])
    pair.registry.path_reports.take(pair.dev, gone, 120.0)
    assert list(pair.registry.path_reports.tunnels(DEV, 120.0)) == []
    pair.registry.path_reports.take(
        pair.laptop, replace_struct(direct, path_reports=[PathReport(DEV.node_id, "direct")]), 130.0
    )
    assert list(pair.registry.path_reports.tunnels(DEV, 131.0)) == [(LAPTOP, "direct", 1.0)]
    assert list(pair.registry.path_reports.tunnels(replace(DEV, shares=()), 131.0)) == []
