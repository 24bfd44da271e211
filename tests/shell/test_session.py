"""One identity joined to its network: what the map asks of the kernel and of DNS, and what is left when it ends."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Interface, IPv6Network
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio.testing import MockClock

from coderd.config.node import NodeConfig
from coderd.coordination.reporter import Reports
from coderd.coordination.saved_netmap import encode_netmap
from coderd.coordination.server_state import ServerState
from coderd.daemon.identity import Identity
from coderd.daemon.session import Parts, Session, SessionOver
from coderd.daemon.state import StateStore
from coderd.model.addresses import tailnet_address
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NetMap, NodeKind
from coderd.model.paths import PathInfo, PathKind
from coderd.model.ports import NO_PORTS, PortSet, parse_ports
from coderd.model.reachability import PeerPath
from tests.shell.daemon_world import make_netmap, make_peer

DEV = make_peer("ann/dev", 1)


class FakeTunnel:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.disco_key = self.generation = None
        self.n_resolved = 0
        self.is_closed = False
        self.admitted: tuple[PortSet, bool] | None = None

    async def run(self, on_command: object, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def proves(self, peer: object, shown: str) -> bool:
        return True

    def close(self) -> None:
        self.is_closed = True

    def set_netmap(self, netmap: NetMap, accepted: PortSet, *, is_workspace: bool) -> NetMap:
        self.accept(accepted, is_workspace=is_workspace)
        return netmap

    def accept(self, accepted: PortSet, *, is_workspace: bool) -> None:
        self.admitted = (accepted, is_workspace)

    def set_server_connected(self, is_connected: bool) -> None: ...

    def resolve_relays(self) -> None:
        self.n_resolved += 1

    def paths(self) -> list[PeerPath]:
        return [PeerPath(UUID(int=1), PathInfo(PathKind.RELAY, 999, 0.03, 0.0), True)]

    def handshake_failures(self) -> dict[str, int]:
        return {}

    @contextmanager
    def pinned(self, peer: object, path: object) -> Any:
        yield


class FakeRouter:
    """An interface's settings."""

    def __init__(self) -> None:
        self.addresses: list[IPv6Interface] = []
        self.routes: list[IPv6Network] = []
        self.error: OSError | None = None

    async def configure(self, addresses: list[IPv6Interface], mtu: int) -> None:
        await trio.lowlevel.checkpoint()
        self._fail()
        self.addresses = addresses

    async def set_routes(self, networks: list[IPv6Network]) -> None:
        await trio.lowlevel.checkpoint()
        self._fail()
        self.routes = networks

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class FakeClient:
    """A server that says what the test says."""

    def __init__(self, last: NetMap | None, on_netmap: Any, on_state: Any) -> None:
        self.say_map: Callable[[NetMap], None] = on_netmap
        self.say_state: Callable[[ServerState], None] = on_state
        self.forgotten: set[UUID] = set()
        self.reported: list[Reports] = []

    async def run(self) -> None:
        await trio.sleep_forever()

    def forget_peers(self, node_ids: set[UUID]) -> None:
        self.forgotten |= node_ids

    def report(self, reports: Reports) -> None:
        self.reported.append(reports)


class FakeServices:
    """Listens at an address until it is ended."""

    def __init__(self, world: "World", address: object, *args: object) -> None:
        self._world = world
        self._address = str(address)
        self._scope = trio.CancelScope()

    async def run(self, task_status: Any) -> None:
        with self._scope:
            self._world.listening.append(self._address)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._world.listening.remove(self._address)

    def end(self) -> None:
        self._scope.cancel()

    def review(self) -> None:
        self._world.n_reviewed += 1


class World:
    """A session over fakes, and how many services listen where."""

    def __init__(self, directory: Path) -> None:
        self.encode = encode_netmap
        self.listening: list[str] = []
        self.n_reviewed = 0
        self.store = StateStore(directory)
        self.session: Any = None
        self.router = FakeRouter()
        self.kind = NodeKind.DEVICE
        self._identity = Identity(
            "http://192.0.2.10:3000", "cdrd_1", NodePrivate(b"\x01" * 32), NodeKind.DEVICE
        )

    def open(self) -> Any:
        self.router = FakeRouter()
        parts: Any = Parts(
            "coder0",
            cast(Any, self.router),
            cast(Any, FakeTunnel()),
            cast(Any, FakeClient),
            serve=cast(Any, partial(FakeServices, self)),
            encode=lambda netmap: self.encode(netmap),
        )
        self.session = Session(replace(self._identity, kind=self.kind), NodeConfig(), self.store, parts)
        return self.session


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Any]:
    session = world.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        await trio.testing.wait_all_tasks_blocked()
        yield session
        session.end()


def say(world: World, netmap: NetMap) -> None:
    world.session._client.say_map(netmap)
    world.session._client.say_state(ServerState(connected=True))


async def test_a_map_becomes_address_and_routes_and_then_the_node_has_joined(
    autojump_clock: MockClock, world: World
) -> None:
    async with running(world) as session:
        netmap = make_netmap(DEV)
        say(world, netmap)
        await session.joined.wait()
        assert world.router.addresses == [IPv6Interface(f"{netmap.self_node.address}/128")]
        assert world.router.routes == [IPv6Network(DEV.address)]


async def test_the_map_of_one_life_is_there_for_the_next(
    autojump_clock: MockClock, world: World, tmp_path: Path
) -> None:
    """It was once written so that nobody could read it: without a server, a daemon that restarted knew no peer."""
    async with running(world):
        say(world, make_netmap(DEV))
        await trio.testing.wait_all_tasks_blocked()
    world.store.close()
    world.store = StateStore(tmp_path)
    async with running(world) as session:
        assert session.netmap == make_netmap(DEV)


async def test_the_log_says_who_came_who_came_back_and_who_went(
    autojump_clock: MockClock, world: World
) -> None:
    lost = replace(DEV, online=False)
    again = replace(DEV, generation=2)
    async with running(world):
        with capture_logs() as log:
            for peers in ([DEV], [DEV], [lost], [again], [replace(again, generation=3)], []):
                say(world, make_netmap(*peers))
    told = [entry["event"] for entry in log if "peer" in entry]
    assert told == ["peer online", "peer offline", "peer online", "peer online", "peer offline"]


@pytest.mark.slow
async def test_a_large_map_is_encoded_when_it_is_written_and_not_at_each_change(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_encoded = 0

    def encode(netmap: NetMap) -> bytes:
        nonlocal n_encoded
        n_encoded += 1
        return encode_netmap(netmap)

    is_saved, token = trio.Event(), trio.lowlevel.current_trio_token()

    def save(store: StateStore) -> None:
        write(store)
        if len(store.current.netmap) > 100_000:
            token.run_sync_soon(is_saved.set)

    write = StateStore.save_newest
    monkeypatch.setattr(StateStore, "save_newest", save)
    world.encode = encode
    crowd = [
        replace(DEV, node_id=UUID(int=number), address=tailnet_address(UUID(int=number)))
        for number in range(1000, 4000)
    ]
    async with running(world):
        for count in range(2990, 3001):
            world.session._client.say_map(make_netmap(*crowd[:count]))
        await is_saved.wait()
        assert n_encoded == 1
    async with running(world):
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.router.routes) == 3000


async def test_the_last_map_is_in_force_before_the_server_speaks(
    autojump_clock: MockClock, world: World
) -> None:
    async with running(world):
        say(world, make_netmap(DEV))
    async with running(world) as session:
        await trio.testing.wait_all_tasks_blocked()
        assert world.router.routes == [IPv6Network(DEV.address)]
        assert not session.joined.is_set()


async def test_a_session_that_ends_leaves_nothing_on_the_interface(
    autojump_clock: MockClock, world: World
) -> None:
    world.kind = NodeKind.WORKSPACE
    async with running(world) as session:
        say(world, make_netmap(DEV, kind=NodeKind.WORKSPACE))
        await session.joined.wait()
        assert len(world.listening) == 1
        router = world.router
    assert (router.addresses, router.routes, world.listening) == ([], [], [])
    assert session.over.is_set()
    assert session.tunnel.is_closed


async def test_an_interface_that_is_gone_does_not_keep_a_session_from_ending(
    autojump_clock: MockClock, world: World
) -> None:
    async with running(world) as session:
        say(world, make_netmap(DEV))
        await session.joined.wait()
        world.router.error = OSError(19, "No such device")
    assert session.over.is_set()


@pytest.mark.parametrize("told", [NodeKind.DEVICE, NodeKind.WORKSPACE])
async def test_a_device_serves_nobody_whatever_the_server_calls_it(
    autojump_clock: MockClock, world: World, told: NodeKind
) -> None:
    async with running(world) as session:
        say(world, make_netmap(PHONE, kind=told))
        await session.joined.wait()
        assert world.listening == []


async def test_a_saved_map_of_another_kind_is_refused_and_logged(
    autojump_clock: MockClock, world: World
) -> None:
    world.kind = NodeKind.WORKSPACE
    async with running(world):
        say(world, make_netmap(PHONE, kind=NodeKind.WORKSPACE))
    world.kind = NodeKind.DEVICE
    with capture_logs() as log:
        async with running(world) as session:
            assert session.netmap is None
    assert "saved map of another kind refused" in [entry["event"] for entry in log]


async def test_what_its_user_said_at_the_machine_is_what_a_device_accepts(
    autojump_clock: MockClock, world: World
) -> None:
    async with running(world) as session:
        say(world, make_netmap(DEV))
        assert session.tunnel.admitted == (NO_PORTS, False)
        assert session.accepts_inbound == "none"
        world.store.update(accept_inbound="22,8000-8999")
        session.accept_inbound()
        assert session.tunnel.admitted == (parse_ports("22,8000-8999"), False)
        say(world, make_netmap(DEV, PHONE))
        assert session.tunnel.admitted == (parse_ports("22,8000-8999"), False)
        assert session.accepts_inbound == "22,8000-8999"


async def test_only_a_machine_that_was_started_as_one_is_opened_as_a_workspace(
    autojump_clock: MockClock, world: World
) -> None:
    async with running(world) as session:
        say(world, make_netmap(PHONE, kind=NodeKind.WORKSPACE))
        assert session.tunnel.admitted == (NO_PORTS, False)
        assert session.accepts_inbound == "none"
        session.end()
    world.kind = NodeKind.WORKSPACE
    async with running(world) as session:
        say(world, make_netmap(PHONE, kind=NodeKind.WORKSPACE))
        assert session.tunnel.admitted == (NO_PORTS, True)
        assert session.accepts_inbound is None


async def test_what_a_workspace_serves_is_held_to_each_new_map_at_once(
    autojump_clock: MockClock, world: World
) -> None:
    world.kind = NodeKind.WORKSPACE
    async with running(world) as session:
        say(world, make_netmap(PHONE, kind=NodeKind.WORKSPACE))
        await session.joined.wait()
        before = world.n_reviewed
        say(world, make_netmap(kind=NodeKind.WORKSPACE))
        assert world.n_reviewed == before + 1
        assert session._hosting.standing(PHONE.node_id) is None


async def test_services_move_with_the_address(autojump_clock: MockClock, world: World) -> None:
    world.kind = NodeKind.WORKSPACE
    async with running(world) as session:
        first = make_netmap(DEV, kind=NodeKind.WORKSPACE)
        say(world, first)
        await session.joined.wait()
        me = first.self_node
        moved = type(me)(DEV.node_id, me.kind, me.name, DEV.address)
        say(world, type(first)(moved, first.derp_map, {}))
        await trio.testing.wait_all_tasks_blocked()
        assert world.listening == [str(DEV.address)]


async def test_relay_names_are_asked_for_again_with_each_connection(
    autojump_clock: MockClock, world: World
) -> None:
    async with running(world) as session:
        say(world, make_netmap(DEV))
        await trio.testing.wait_all_tasks_blocked()
        before = session.tunnel.n_resolved
        session._client.say_state(ServerState(connected=False, reason="gone"))
        await trio.testing.wait_all_tasks_blocked()
        session._client.say_state(ServerState(connected=True))
        await trio.testing.wait_all_tasks_blocked()
        assert session.tunnel.n_resolved > before


async def test_the_server_is_told_of_paths_once_and_again_by_each_connection(
    autojump_clock: MockClock, world: World
) -> None:
    async with running(world) as session:
        await trio.sleep(60)
        assert session._client.reported == []
        for n_connections in (1, 2):
            session._client.say_state(ServerState(connected=True))
            await trio.sleep(60)
            session._client.say_state(ServerState(connected=False, reason="gone"))
            await trio.sleep(60)
            told = [report.path for reports in session._client.reported for report in reports.paths]
            assert told == ["relay"] * n_connections


async def test_work_with_a_session_ends_when_it_does(autojump_clock: MockClock, world: World) -> None:
    async def work(session: Session) -> None:
        with pytest.raises(SessionOver), session.lifetime():
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery, running(world) as session:
        nursery.start_soon(work, session)
        await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(SessionOver), session.lifetime():
        pass


async def test_only_devices_may_use_what_a_workspace_serves(autojump_clock: MockClock, world: World) -> None:
    phone = make_peer("ann/phone", 3, kind=NodeKind.DEVICE)
    world.kind = NodeKind.WORKSPACE
    async with running(world) as session:
        assert session._hosting.peer_at(str(phone.address)) is None
        say(world, make_netmap(DEV, phone, kind=NodeKind.WORKSPACE))
        assert session._hosting.peer_at(str(phone.address)) == phone
        assert session._hosting.peer_at(str(DEV.address)) is None
        assert session._hosting.peer_at("::1") is None


PHONE = make_peer("ann/phone", 3, kind=NodeKind.DEVICE)
HOUR = 3600.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NodeKind.WORKSPACE, NodeKind.DEVICE])
async def test_a_workspace_cut_off_for_a_day_drops_its_users_and_a_device_keeps_its_workspaces(
    autojump_clock: MockClock, world: World, kind: NodeKind
) -> None:
    world.kind = kind
    async with running(world) as session:
        say(world, make_netmap(PHONE if kind is NodeKind.WORKSPACE else DEV, kind=kind))
        await trio.sleep(48 * HOUR)
        session._client.say_state(ServerState(connected=False, reason="gone"))
        await trio.sleep(23.9 * HOUR)
        assert session._client.forgotten == set()
        await trio.sleep(0.2 * HOUR)
        assert session._client.forgotten == ({PHONE.node_id} if kind is NodeKind.WORKSPACE else set())


@pytest.mark.parametrize(("hours", "kept"), [(23, {PHONE.node_id}), (25, set())])
async def test_the_day_goes_on_while_the_daemon_is_down(
    autojump_clock: MockClock, world: World, hours: float, kept: set[UUID]
) -> None:
    world.kind = NodeKind.WORKSPACE
    async with running(world):
        say(world, make_netmap(PHONE, kind=NodeKind.WORKSPACE))
    heard_at = world.store.current.authorised_at
    assert abs(heard_at - time.time()) < HOUR
    world.store.update(authorised_at=heard_at - hours * HOUR)
    async with running(world) as session:
        assert session.netmap.peers.keys() == kept
