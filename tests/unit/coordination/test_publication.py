"""How often a node may change what its peers are shown, with literal times, and what that costs a crowd."""

from uuid import UUID

from coderd.coordination.message import Endpoint, Peers, Update
from coderd.coordination.publication import BURST, INTERVAL
from coderd.coordination.registry import Registry
from coderd.coordination.viewer import HOLD, NodeFacts, Viewer
from coderd.identity.people import Node, User
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NodeKind

ANN = User(UUID(int=101), "ann")


def make_node(kind: NodeKind, number: int) -> Node:
    return Node(UUID(int=number), kind, f"n{number}", ANN, 0.0)


def at(port: int) -> Update:
    return Update(999, [Endpoint(f"192.0.2.1:{port}")])


class Crowd:
    """A device and workspaces of one user, each of which has been told of what it may meet."""

    def __init__(self, n_devices: int = 1, n_workspaces: int = 1) -> None:
        self.registry = Registry()
        self.n_wakes = 0
        self.n_messages = 0
        self.now = 0.0
        devices = [make_node(NodeKind.DEVICE, number) for number in range(1, n_devices + 1)]
        spaces = [make_node(NodeKind.WORKSPACE, number) for number in range(1001, 1001 + n_workspaces)]
        self.devices = [self.join(node) for node in devices]
        self.workspaces = [self.join(node) for node in spaces]
        for connection in self.everybody:
            assert self.registry.update(connection, at(1), self.now) is None
        for _ in range(2):
            self.drain()
            self.now += 2 * HOLD + BURST * INTERVAL
        self.n_wakes = self.n_messages = 0

    @property
    def everybody(self) -> list[Viewer]:
        return [*self.devices, *self.workspaces]

    def join(self, node: Node) -> Viewer:
        key = node.node_id.int.to_bytes(32, "big")
        return self.registry.connect(node, NodeFacts(NodePublic(key), DiscoPublic(key), 1), wake=self._wake)

    def move(self, connection: Viewer, port: int) -> None:
        assert self.registry.update(connection, at(port), self.now) is None

    def drain(self, *connections: Viewer) -> list[str]:
        """Takes all that these are owed, or everybody is; returns the endpoints that are told."""
        told = []
        for connection in connections or self.everybody:
            while (message := self.registry.poll(connection, self.now)) is not None:
                assert isinstance(message, Peers)
                self.n_messages += 1
                told += [endpoint for entry in message.upsert for endpoint in entry.endpoints]
        return told

    def wait(self, connection: Viewer) -> None:
        """Lets the time come at which a connection wants to be asked again."""
        deadline = self.registry.poll_timeout(connection)
        assert deadline is not None
        assert deadline.why == "publication"
        self.now = deadline.when

    def _wake(self) -> None:
        self.n_wakes += 1


def test_the_first_changes_are_shown_at_once_and_the_last_of_the_others_when_its_turn_comes() -> None:
    crowd = Crowd()
    (laptop,), (dev,) = crowd.devices, crowd.workspaces
    began = crowd.now
    for port in range(10, 10 + BURST):
        crowd.move(dev, port)
        assert crowd.drain(laptop) == [f"192.0.2.1:{port}"]
    for port in range(50, 60):
        crowd.move(dev, port)
        assert crowd.drain() == []
    crowd.wait(dev)
    assert crowd.now == began + INTERVAL
    crowd.drain(dev)
    assert crowd.drain(laptop) == ["192.0.2.1:59"]
    assert crowd.registry.poll_timeout(dev) is None


def test_a_change_that_is_taken_back_before_its_turn_is_never_shown() -> None:
    crowd = Crowd()
    (laptop,), (dev,) = crowd.devices, crowd.workspaces
    for port in range(10, 10 + BURST):
        crowd.move(dev, port)
    crowd.drain()
    crowd.move(dev, 50)
    crowd.move(dev, 10 + BURST - 1)
    assert crowd.registry.poll_timeout(dev) is None
    crowd.now += 10.0
    assert crowd.drain(dev, laptop) == []


def test_to_come_again_and_again_shows_a_node_no_oftener_and_its_last_state_is_shown() -> None:
    crowd = Crowd()
    (laptop,), (dev,) = crowd.devices, crowd.workspaces
    shown = []
    for port in range(10, 50):
        dev = crowd.join(dev.node)
        crowd.move(dev, port)
        shown += crowd.drain(laptop)
        crowd.now += INTERVAL / 10
    assert len(shown) <= BURST + 4
    crowd.now += INTERVAL
    crowd.drain(dev)
    assert [*shown, *crowd.drain(laptop)][-1] == "192.0.2.1:49"


def test_one_that_comes_and_goes_without_a_turn_wakes_nobody() -> None:
    crowd = Crowd()
    (dev,) = crowd.workspaces
    for port in range(10, 10 + BURST):
        crowd.move(dev, port)
    crowd.registry.lost(dev)
    crowd.drain()
    crowd.n_wakes = 0
    for port in range(50, 60):
        dev = crowd.join(dev.node)
        crowd.move(dev, port)
        n_own = crowd.n_wakes
        crowd.registry.lost(dev)
        assert crowd.n_wakes == n_own


def test_a_persons_whole_crowd_that_updates_at_the_allowed_rate_is_told_at_the_rate_of_publication() -> None:
    n_devices, n_workspaces, seconds = 10, 100, 5.0
    crowd = Crowd(n_devices, n_workspaces)
    step, end, port = 0.05, crowd.now + seconds, 10
    while crowd.now < end:
        port += 1
        for connection in crowd.everybody:
            crowd.move(connection, port)
        crowd.drain()
        crowd.now += step
    n_changes = BURST + seconds / INTERVAL
    assert crowd.n_messages <= (n_devices + n_workspaces) * 2 * n_changes
    for connection in crowd.everybody:
        crowd.drain(connection)
    crowd.now += INTERVAL
    crowd.drain()
    assert set(crowd.drain()) <= {f"192.0.2.1:{port}"}
    for connection in crowd.everybody:
        view = crowd.registry.view(crowd.devices[0].node, connection.node.node_id)
        assert not hasattr(view, "endpoints") or view.endpoints == [f"192.0.2.1:{port}"]
