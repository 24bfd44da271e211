"""The registry: who is shown whom, when, and how little a connection is told twice."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import repeat
from uuid import UUID

import pytest

from coderd.config.url import parse_server_url
from coderd.coordination.message import (
    MAX_ENTRIES,
    Absence,
    DerpMapChanged,
    Endpoint,
    PeerEntry,
    Peers,
    Reconnect,
    Removal,
    SelfEntry,
    Update,
    Welcome,
)
from coderd.coordination.netmap_client import NetMapClient
from coderd.coordination.registry import Registry
from coderd.coordination.viewer import HOLD, NodeFacts, Viewer
from coderd.identity.people import Node, User
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NodeKind

ANN, BOB = User(UUID(int=101), "ann"), User(UUID(int=102), "bob")
rng = random.Random(3).randbytes


def node(name: str, kind: NodeKind, owner: User = ANN) -> Node:
    return Node(UUID(bytes=rng(16)), kind, name, owner, 0.0)


def laptop(owner: User = ANN) -> Node:
    return node("laptop", NodeKind.DEVICE, owner)


def workspace(name: str = "dev", owner: User = ANN) -> Node:
    return node(name, NodeKind.WORKSPACE, owner)


def facts(generation: int = 1) -> NodeFacts:
    return NodeFacts(NodePublic(rng(32)), DiscoPublic(rng(32)), generation)


def at(*addrs: str, region: int = 999) -> Update:
    return Update(region, [Endpoint(addr) for addr in addrs])


@dataclass
class Link:
    """A node's connection, and the messages that it has drawn."""

    registry: Registry
    connection: Viewer
    n_wakes: list[int] = field(default_factory=list)

    def drain(self, now: float = 0.0) -> list[Peers]:
        messages = []
        while (message := self.registry.poll(self.connection, now)) is not None:
            assert isinstance(message, Peers)
            messages.append(message)
        return messages

    def names(self, now: float = 0.0) -> list[str]:
        return [entry.name for message in self.drain(now) for entry in message.upsert]

    def ready(self, *nodes: Node) -> None:
        self.registry.ready(self.connection, [node.node_id for node in nodes])


def join(
    registry: Registry,
    node: Node,
    *,
    update: Update | None = None,
    generation: int = 1,
    partners: Iterable[Node] = (),
    resumed: bool = False,
    now: float = 0.0,
) -> Link:
    wakes: list[int] = []
    connection = registry.connect(
        node,
        facts(generation),
        partners=partners,
        resumed=resumed,
        wake=lambda: wakes.append(1),
    )
    if update is not None:
        assert registry.update(connection, update, now) is None
    return Link(registry, connection, wakes)


def meet(registry: Registry, device: Node, space: Node) -> tuple[Link, Link]:
    """A device and a workspace that know each other, with nothing left to say."""
    user, dev = (
        join(registry, device, update=at("192.0.2.1:1")),
        join(registry, space, update=at("192.0.2.2:2")),
    )
    dev.drain()
    dev.ready(device)
    user.drain()
    return user, dev


# The relay map


def test_a_new_relay_map_is_owed_to_everybody_who_is_connected_only_once_and_only_the_newest() -> None:
    registry = Registry()
    user, newcomer = join(registry, laptop(), update=at("192.0.2.1:1")), join(registry, workspace())
    user.drain()
    registry.set_derp_map({"Regions": {"1": {}}})
    registry.set_derp_map({"Regions": {"2": {}}})
    for link in (user, newcomer):
        assert link.n_wakes
        assert registry.poll(link.connection, 0.0) == DerpMapChanged({"Regions": {"2": {}}})
        assert registry.poll(link.connection, 0.0) is None


def test_the_same_relay_map_again_wakes_nobody() -> None:
    registry = Registry()
    registry.set_derp_map({"Regions": {}})
    user = join(registry, laptop())
    registry.set_derp_map({"Regions": {}})
    assert user.n_wakes == []
    assert user.drain() == []


def test_where_direct_connections_are_blocked_nobody_learns_an_address() -> None:
    registry, device, space = Registry(blocks_direct=True), laptop(), workspace()
    user, dev = (
        join(registry, device, update=at("192.0.2.1:1")),
        join(registry, space, update=at("192.0.2.2:2")),
    )
    (to_workspace,) = dev.drain()
    dev.ready(device)
    (to_device,) = user.drain()
    entries = [*to_workspace.upsert, *to_device.upsert]
    assert [entry.endpoints for entry in entries] == [[], []]
    assert {entry.path_policy for entry in entries} == {"relay-only"}


# Who sees whom


def test_a_device_and_its_owners_workspace_are_shown_to_each_other() -> None:
    registry, device, space = Registry(), laptop(), workspace()
    user = join(registry, device, update=at("192.0.2.1:1"))
    dev = join(registry, space, update=at("192.0.2.2:2"))
    assert dev.names() == ["ann/laptop"]
    dev.ready(device)
    (message,) = user.drain()
    (entry,) = message.upsert
    assert (entry.id, entry.name, entry.endpoints) == (space.node_id, "ann/dev", ["192.0.2.2:2"])
    assert entry.address == str(space.address)


@pytest.mark.parametrize(
    "other",
    [laptop(), workspace(owner=BOB), laptop(BOB)],
    ids=["device", "foreign workspace", "foreign device"],
)
def test_nobody_else_is_shown_to_a_device(other: Node) -> None:
    registry = Registry()
    user = join(registry, laptop(), update=at())
    join(registry, other, update=at("192.0.2.9:9"))
    assert user.drain(HOLD * 10) == [Peers(full=True)]


def test_nobody_is_shown_who_has_no_home_yet_nor_sees_anybody() -> None:
    registry, device = Registry(), laptop()
    user = join(registry, device)
    dev = join(registry, workspace(), update=at())
    assert dev.names() == []
    assert user.drain() == []
    registry.update(user.connection, at("192.0.2.1:1", region=0), 0.0)
    assert dev.drain() == []
    registry.update(user.connection, at("192.0.2.1:1"), 0.0)
    assert dev.names() == ["ann/laptop"]


def test_what_a_node_claims_of_itself_beyond_its_own_is_refused() -> None:
    registry, space = Registry(), workspace()
    dev = join(registry, space, generation=7)
    own = str(space.address)
    assert (
        registry.update(dev.connection, Update(999, allowed_ips=[own, f"{own}/128"], generation=7), 0.0)
        is None
    )
    for update in (
        Update(999, allowed_ips=["fd60:627a:a42b::/48"]),
        Update(999, allowed_ips=[own, "::/0"]),
        Update(999, generation=8),
    ):
        refusal = registry.update(dev.connection, update, 0.0)
        assert refusal is not None
        assert refusal.code == "bad_claim"
    refusal = registry.update(dev.connection, at("not an address"), 0.0)
    assert refusal is not None
    assert refusal.code == "malformed"


# What a connection is told, and when


def test_only_what_changed_is_sent_and_only_the_newest_of_it() -> None:
    registry = Registry()
    user, dev = meet(registry, laptop(), workspace())
    registry.update(dev.connection, at("192.0.2.2:2"), 0.0)
    assert user.drain() == []
    for port in range(10, 1000):
        registry.update(dev.connection, at(f"192.0.2.2:{port}"), float(port))
    (message,) = user.drain()
    assert [entry.endpoints for entry in message.upsert] == [["192.0.2.2:999"]]


def test_a_device_waits_for_the_workspace_to_be_ready() -> None:
    registry, device = Registry(), laptop()
    user = join(registry, device, update=at())
    dev = join(registry, workspace(), update=at())
    assert user.drain(10.0) == []
    deadline = registry.poll_timeout(user.connection)
    assert deadline is not None
    assert deadline.when == 10.0 + HOLD
    dev.drain(10.0)
    user.n_wakes.clear()
    dev.ready(device)
    assert user.n_wakes
    assert registry.poll_timeout(user.connection) is None
    assert user.names(10.1) == ["ann/dev"]


def test_a_device_does_not_wait_longer_than_the_hold() -> None:
    registry = Registry()
    user = join(registry, laptop(), update=at())
    join(registry, workspace(), update=at())
    assert user.drain(10.0) == []
    assert user.names(10.0 + HOLD) == ["ann/dev"]
    assert user.drain(10.0 + HOLD) == []
    assert registry.poll_timeout(user.connection) is None


def test_however_many_workspaces_keep_coming_a_device_is_shown_the_first_within_a_hold() -> None:
    registry, device = Registry(), laptop()
    user = join(registry, device, update=at())
    join(registry, workspace("first"), update=at())
    assert user.drain(10.0) == []
    join(registry, workspace("second"), update=at())
    assert user.drain(10.5) == []
    deadline = registry.poll_timeout(user.connection)
    assert deadline is not None
    assert deadline.when == 10.0 + HOLD
    assert user.names(deadline.when) == ["ann/first"]
    deadline = registry.poll_timeout(user.connection)
    assert deadline is not None
    assert deadline.when == 10.5 + HOLD
    assert user.names(deadline.when) == ["ann/second"]


def test_a_later_workspace_is_held_for_itself_alone() -> None:
    registry, device = Registry(), laptop()
    user, _ = meet(registry, device, workspace())
    join(registry, workspace("slow"), update=at())
    assert user.drain(20.0) == []
    quick = join(registry, workspace("quick"), update=at())
    quick.drain(20.5)
    quick.ready(device)
    assert user.names(20.5) == ["ann/quick"]
    deadline = registry.poll_timeout(user.connection)
    assert deadline is not None
    assert deadline.when == 20.0 + HOLD
    assert user.names(deadline.when) == ["ann/slow"]
    assert registry.poll_timeout(user.connection) is None


def test_a_restarted_device_waits_again_since_the_workspace_knows_the_old_one() -> None:
    registry, device = Registry(), laptop()
    _, dev = meet(registry, device, workspace())
    user = join(registry, device, update=at("192.0.2.1:1"), generation=2)
    assert user.drain(5.0) == []
    assert dev.names(5.0) == ["ann/laptop"]
    dev.ready(device)
    assert user.names(5.0) == ["ann/dev"]


def test_readiness_for_somebody_unknown_is_nothing() -> None:
    registry, device = Registry(), laptop()
    user = join(registry, device, update=at())
    dev = join(registry, workspace(), update=at())
    registry.ready(dev.connection, [device.node_id, UUID(int=5)])
    assert user.drain(0.0) == []


def test_a_message_has_at_most_256_entries_and_the_last_of_a_full_list_says_so() -> None:
    registry = Registry()
    device = laptop()
    for number in range(2 * MAX_ENTRIES + 1):
        join(registry, workspace(f"w{number}"), update=at())
    user = join(registry, device, update=at())
    messages = user.drain(0.0) + user.drain(HOLD)
    assert [len(message.upsert) for message in messages] == [256, 256, 1]
    assert [(message.full, message.more) for message in messages] == [
        (True, True),
        (True, True),
        (True, False),
    ]


def test_many_changes_at_once_come_in_messages_of_256() -> None:
    registry = Registry()
    spaces = [workspace(f"w{number}") for number in range(MAX_ENTRIES + 5)]
    links = [join(registry, space, update=at()) for space in spaces]
    user = join(registry, laptop(), update=at())
    user.drain(0.0)
    user.drain(HOLD)
    for link in links:
        registry.goodbye(link.connection)
    assert [len(message.remove) for message in user.drain(HOLD)] == [256, 5]


# Leaving


@pytest.mark.parametrize(("leave", "reason"), [(Registry.goodbye, "disconnected"), (Registry.lost, "lost")])
def test_peers_learn_how_a_node_left(leave: object, reason: str) -> None:
    registry, space = Registry(), workspace()
    user, dev = meet(registry, laptop(), space)
    assert callable(leave)
    leave(registry, dev.connection)
    registry.lost(dev.connection)
    assert user.drain() == [Peers(remove=[Removal(space.node_id, reason)])]
    assert not registry.is_online(space.node_id)


def test_a_node_that_was_never_shown_is_not_taken_away() -> None:
    registry = Registry()
    user = join(registry, laptop(), update=at())
    user.drain()
    dev = join(registry, workspace(), update=at())
    registry.lost(dev.connection)
    assert user.drain(HOLD * 2) == []


def test_a_lost_node_that_returns_is_shown_again() -> None:
    registry, device, space = Registry(), laptop(), workspace()
    user, dev = meet(registry, device, space)
    registry.lost(dev.connection)
    user.drain()
    again = join(registry, space, update=at("192.0.2.2:3"), generation=2)
    again.drain()
    again.ready(device)
    assert user.names() == ["ann/dev"]


def test_a_deleted_identity_ends_at_once_and_is_taken_away() -> None:
    registry, space = Registry(), workspace()
    user, dev = meet(registry, laptop(), space)
    registry.forget(space)
    assert dev.connection.end is not None
    assert dev.drain() == []
    assert user.drain() == [Peers(remove=[Removal(space.node_id, "denied")])]


def test_an_identity_deleted_while_away_is_taken_away_from_whoever_remembers_it() -> None:
    registry, space = Registry(), workspace()
    user = join(registry, laptop(), update=at(), partners=[space])
    user.drain()  # the server has restarted: the device hears "lost", and keeps its tunnel
    registry.forget(space)
    assert user.drain() == [Peers(remove=[Removal(space.node_id, "denied")])]


# One identity, one connection


def test_the_newest_connection_wins_and_the_old_is_told_replaced() -> None:
    registry, space = Registry(), workspace()
    user, old = meet(registry, laptop(), space)
    new = join(registry, space)
    assert old.connection.end is not None
    assert getattr(old.connection.end, "code", "") == "replaced"
    assert old.n_wakes
    registry.lost(old.connection)
    assert registry.connection_of(space.node_id) is new.connection
    assert registry.update(old.connection, at("192.0.2.66:6"), 0.0) is None
    assert user.drain() == []


def test_a_machine_that_resumes_does_not_replace_itself() -> None:
    registry, space = Registry(), workspace()
    old = join(registry, space, update=at())
    join(registry, space, resumed=True)
    assert getattr(old.connection.end, "code", "") == "superseded"


def test_a_reconnecting_node_is_not_lost_in_between() -> None:
    registry, device, space = Registry(), laptop(), workspace()
    user, old = meet(registry, device, space)
    new = join(registry, space, resumed=True)
    registry.lost(old.connection)
    registry.update(new.connection, at("192.0.2.2:2"), 0.0)
    new.drain()
    new.ready(device)
    messages = user.drain()
    assert [message.remove for message in messages if message.remove] == []


def test_a_restarted_server_calls_absent_partners_lost_and_strangers_nothing() -> None:
    registry, space = Registry(), workspace()
    user = join(registry, laptop(), update=at(), partners=[space])
    absence = Absence(space.node_id, "workspace", "ann/dev")
    assert user.drain() == [Peers(remove=[Removal(space.node_id, "lost")], absent=[absence], full=True)]


def test_a_device_is_told_of_a_workspace_that_was_made_and_has_not_joined() -> None:
    registry, space = Registry(), workspace()
    user = join(registry, laptop(), update=at())
    user.drain()
    registry.introduce(space)
    assert user.drain() == [Peers(absent=[Absence(space.node_id, "workspace", "ann/dev")])]
    registry.forget(space)
    assert user.drain() == [Peers(remove=[Removal(space.node_id, "denied")])]
    registry.introduce(workspace("other"))
    assert [absence.name for message in user.drain() for absence in message.absent] == ["ann/other"]


def test_a_workspace_is_not_told_of_devices_that_are_absent() -> None:
    registry, device = Registry(), laptop()
    dev = join(registry, workspace(), update=at(), partners=[device])
    assert [message.absent for message in dev.drain()] == [[]]


def test_a_workspace_that_comes_back_hears_who_left_on_purpose_and_may_return() -> None:
    registry, device = Registry(), laptop()
    user, dev = (
        join(registry, device, update=at()),
        join(registry, workspace(), update=at(), partners=[device]),
    )
    registry.goodbye(user.connection)
    registry.lost(dev.connection)
    dev = join(registry, workspace(), update=at(), partners=[device])
    (full,) = dev.drain()
    assert [(removal.id, removal.reason) for removal in full.remove] == [(device.node_id, "disconnected")]


def test_closing_tells_everybody_and_loses_nobody() -> None:
    registry = Registry()
    user, dev = meet(registry, laptop(), workspace())
    registry.close(repeat(Reconnect(500)))
    registry.lost(dev.connection)
    assert user.connection.end == dev.connection.end == Reconnect(500)
    assert user.drain() == []


# Both ends together


def test_whatever_happens_a_node_ends_up_with_the_truth() -> None:
    """Random joins, moves and departures.

    The device's NetMap then holds exactly the workspaces that are there.
    """
    random_ = random.Random(4)
    registry, device = Registry(), laptop()
    spaces = [workspace(f"w{number}") for number in range(6)]
    present: dict[UUID, tuple[Link, str]] = {}
    user = join(registry, device, update=at())
    core = NetMapClient(parse_server_url("http://192.0.2.1"))
    self_entry = SelfEntry(device.node_id, "device", "ann/laptop", str(device.address))
    core.handle_message(Welcome(self_entry, {"Regions": {}}, ""))
    now = 0.0
    for _ in range(500):
        now += random_.random()
        space = random_.choice(spaces)
        action = random_.choice(["join", "move", "goodbye", "ready", "poll"])
        endpoint = f"192.0.2.2:{random_.randrange(1, 60000)}"
        if action == "join":
            present[space.node_id] = (join(registry, space, update=at(endpoint), now=now), endpoint)
        elif space.node_id in present:
            link, _ = present[space.node_id]
            if action == "move":
                registry.update(link.connection, at(endpoint), now)
                present[space.node_id] = (link, endpoint)
            elif action == "goodbye":
                registry.goodbye(link.connection)
                del present[space.node_id]
            elif action == "ready":
                link.drain(now)
                link.ready(device)
        if action == "poll":
            for message in user.drain(now):
                core.handle_message(message)
    for later in (now + 1, now + 1 + HOLD):
        for link, _ in present.values():
            link.drain(later)
        for message in user.drain(later):
            core.handle_message(message)
    assert core.netmap is not None
    seen = {peer.node_id: peer.endpoints[0] for peer in core.netmap.peers.values()}
    assert {i: f"{ip}:{port}" for i, (ip, port) in seen.items()} == {i: e for i, (_, e) in present.items()}


def test_an_entry_says_what_the_server_decided() -> None:
    registry, device = Registry(), laptop()
    join(registry, device, update=at("[2001:db8:0::1]:5"), generation=2**64 - 1)
    dev = join(registry, workspace(), update=at())
    (message,) = dev.drain()
    entry = message.upsert[0]
    assert isinstance(entry, PeerEntry)
    assert entry.endpoints == ["[2001:db8::1]:5"]
    assert (entry.kind, entry.generation, entry.path_policy) == ("device", 2**64 - 1, "any")


def test_an_endpoint_that_names_an_interface_is_told_to_nobody() -> None:
    registry, device = Registry(), laptop()
    join(registry, device, update=at("[2001:db8::1%\u00b2]:5", "[2001:db8::1%eth0]:5", "192.0.2.2:2"))
    dev = join(registry, workspace(), update=at())
    (message,) = dev.drain()
    assert message.upsert[0].endpoints == ["192.0.2.2:2"]


def test_the_server_meets_a_workspace_while_it_wants_to_and_looks_like_a_device() -> None:
    registry, dev = Registry(), workspace()
    server = join(registry, node("server", NodeKind.SERVER, BOB), update=at("192.0.2.10:1"))
    inside = join(registry, dev, update=at("192.0.2.2:1"))
    assert (server.names(), inside.names()) == ([], [])
    registry.meet(dev)
    (told,) = inside.drain()
    assert [(entry.name, entry.kind) for entry in told.upsert] == [("server", "device")]
    inside.ready(server.connection.node)
    assert server.names() == ["ann/dev"]
    registry.part(dev)
    gone = [
        [removal.reason for removal in message.remove]
        for link in (server, inside)
        for message in link.drain()
    ]
    assert gone == [["denied"], ["denied"]]


def test_the_server_is_nobodys_peer_but_a_workspaces() -> None:
    registry, phone = Registry(), laptop()
    server = join(registry, node("server", NodeKind.SERVER, BOB), update=at("192.0.2.10:1"))
    device = join(registry, phone, update=at("192.0.2.2:1"))
    registry.meet(phone)
    assert (server.names(), device.names()) == ([], [])
    assert registry.n_connections() == 1
