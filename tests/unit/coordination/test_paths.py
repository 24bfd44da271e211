"""What the registry keeps and counts of nodes' reports, and how little a hostile node gains by them."""

from uuid import UUID

from coderd.coordination.message import PathReport, Update
from coderd.coordination.paths import COUNT_BURST, COUNT_RATE, MAX_KEPT, ConnectionPaths, PathTally
from coderd.coordination.registry import Registry
from coderd.coordination.viewer import NodeFacts, Viewer
from coderd.identity.people import Node, User
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind

ANN, BOB = User(UUID(int=101), "ann"), User(UUID(int=102), "bob")
LAPTOP = Node(UUID(int=1), NodeKind.DEVICE, "laptop", ANN, 0.0)
DEV = Node(UUID(int=2), NodeKind.WORKSPACE, "dev", ANN, 0.0)
FOREIGN = Node(UUID(int=3), NodeKind.WORKSPACE, "dev", BOB, 0.0)


class World:
    """A registry in which nodes join and have drawn all that they were owed."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.wakes: list[str] = []

    def join(self, node: Node) -> Viewer:
        key = node.node_id.bytes * 2
        facts = NodeFacts(NodePublic(key), DiscoPublic(key), 1)
        connection = self.registry.connect(node, facts, wake=lambda: self.wakes.append(node.name))
        self.registry.update(connection, Update(999), 0.0)
        return connection

    def settle(self, *connections: Viewer, now: float = 10.0) -> None:
        for connection in connections:
            while self.registry.poll(connection, now) is not None:
                pass
        self.wakes.clear()

    def tell(self, connection: Viewer, *reports: PathReport, now: float = 20.0, **other: object) -> None:
        update = Update(999, path_reports=list(reports), **other)  # type: ignore[arg-type]
        assert self.registry.update(connection, update, now) is None
        self.registry.path_reports.take(connection, update, now)


def report(peer: Node = DEV, path: str = "direct", **more: object) -> PathReport:
    return PathReport(peer.node_id, path, **more)  # type: ignore[arg-type]


def met() -> tuple[World, Viewer, Viewer]:
    world = World()
    laptop, dev = world.join(LAPTOP), world.join(DEV)
    world.settle(laptop, dev)
    world.settle(laptop, dev, now=12.0)
    return world, laptop, dev


def test_who_reaches_whom_is_kept_and_wakes_nobody() -> None:
    world, laptop, dev = met()
    world.tell(laptop, report(rtt=0.02, since=5.0), now=20.0)
    (reach,) = world.registry.path_reports.reaches(30.0)
    assert (reach.node, reach.peer, reach.path, reach.rtt, reach.since) == (LAPTOP, DEV, "direct", 0.02, 15.0)
    assert world.wakes == []
    assert world.registry.poll(dev, 30.0) is None


def test_the_newest_report_of_a_peer_counts_and_the_others_stay() -> None:
    world, laptop, _ = met()
    other = Node(UUID(int=4), NodeKind.WORKSPACE, "lab", ANN, 0.0)
    lab = world.join(other)
    world.settle(laptop, lab, now=21.0)
    world.settle(laptop, lab, now=23.0)
    world.tell(laptop, report(path="relay", region=7), report(other))
    world.tell(laptop, report())
    assert {(reach.peer.name, reach.path) for reach in world.registry.path_reports.reaches(30.0)} == {
        ("dev", "direct"),
        ("lab", "direct"),
    }


def test_reports_about_strangers_and_of_unknown_kinds_are_nothing() -> None:
    world, laptop, _ = met()
    foreign = world.join(FOREIGN)
    world.settle(foreign)
    world.tell(
        laptop, report(FOREIGN), PathReport(UUID(int=99), "direct"), report(path="teleport"), report(LAPTOP)
    )
    assert list(world.registry.path_reports.reaches(30.0)) == []
    assert sum(world.registry.path_reports.tally.time_to_direct.counts) == 0


def test_a_report_goes_with_its_connection_and_is_hidden_with_the_peer() -> None:
    world, laptop, dev = met()
    world.tell(laptop, report())
    world.registry.goodbye(dev)
    world.settle(laptop, now=31.0)
    assert list(world.registry.path_reports.reaches(31.0)) == []
    again = world.join(LAPTOP)
    assert list(again.paths.kinds()) == []


def test_what_was_reported_is_counted_once() -> None:
    world, laptop, _ = met()
    world.tell(laptop, report(path="relay", region=9, n_changes=0))
    world.tell(laptop, report(time_to_direct=0.3, n_changes=1), now=25.0)
    world.tell(laptop, report(n_changes=1), now=30.0)
    world.tell(laptop, report(n_changes=3), now=30.0, handshake_failures={"refused": 4, "weather": 9})
    world.tell(laptop, now=31.0, handshake_failures={"refused": 5})
    tally = world.registry.path_reports.tally
    assert tally.n_changes == 3
    assert (tally.time_to_direct.counts[3], tally.time_to_direct.total) == (1, 0.3)
    assert tally.lifetimes[PathKind.RELAY].total == 5.0
    assert dict(tally.failures) == {"refused": 5}


def test_counts_never_go_back_within_a_connection() -> None:
    world, laptop, _ = met()
    for n_changes in (5, 0, 5, 4, 6):
        world.tell(laptop, report(n_changes=n_changes))
        world.tell(laptop, handshake_failures={"mac1": n_changes})
    assert world.registry.path_reports.tally.n_changes == 6
    assert world.registry.path_reports.tally.failures["mac1"] == 6


def test_a_hostile_nodes_counts_are_bounded() -> None:
    world, laptop, _ = met()
    world.tell(laptop, report(n_changes=2**31), handshake_failures={"refused": 2**31}, now=0.0)
    tally = world.registry.path_reports.tally
    assert tally.n_changes + tally.failures["refused"] == COUNT_BURST
    for n in range(100):
        world.tell(laptop, report(time_to_direct=1.0), now=n / 10)
    assert sum(tally.time_to_direct.counts) <= 10 * COUNT_RATE


def test_one_connection_keeps_no_more_than_its_share() -> None:
    paths = ConnectionPaths()
    reports = [PathReport(UUID(int=n), "relay") for n in range(MAX_KEPT + 50)]
    for start in range(0, len(reports), 200):
        paths.take(Update(1, path_reports=reports[start : start + 200]), lambda _: True, PathTally(), 0.0)
    kept = [peer for peer, *_ in paths.items(0.0)]
    assert len(kept) == MAX_KEPT
    assert UUID(int=MAX_KEPT + 49) in kept


def test_a_tunnel_is_noted_once_per_connection_and_only_a_devices_to_what_it_was_told_of() -> None:
    world, laptop, dev = met()
    used: list[tuple[Node, Node, str]] = []
    world.registry.path_reports.on_tunnel = lambda *tunnel: used.append(tunnel)
    world.tell(laptop, report(path="none"), report(FOREIGN), report(LAPTOP))
    world.tell(dev, report(LAPTOP))
    assert used == []
    world.tell(laptop, report(path="relay"), report())
    world.tell(laptop, report())
    assert used == [(LAPTOP, DEV, "relay")]
    again = world.join(LAPTOP)
    world.settle(again, dev, now=21.0)
    world.settle(again, dev, now=23.0)
    world.tell(again, report(), now=24.0)
    assert used[1:] == [(LAPTOP, DEV, "direct")]
