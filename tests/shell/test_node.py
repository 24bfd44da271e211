"""Which identity is at work: changes one after the other, none of them cut in half, nothing of one left in the next."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from coderd.config.node import NodeConfig
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import NodeKind
from tests.shell.daemon_world import World

REFUSED = UserError("the server refused this node", exit_code=Exit.REFUSED)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.node.run)
        await trio.testing.wait_all_tasks_blocked()
        yield nursery
        nursery.cancel_scope.cancel()


async def test_a_machine_that_never_enrolled_waits(autojump_clock: MockClock, world: World) -> None:
    async with running(world):
        assert world.opened == []
        assert world.node.session is None


async def test_an_enrolled_machine_joins_at_start(autojump_clock: MockClock, world: World) -> None:
    world.enrol()
    async with running(world):
        assert world.opened[0].log == ["run"]
        assert world.opened[0].identity.token == "cdrd_1"


async def test_a_machine_that_is_down_stays_down_at_start(autojump_clock: MockClock, world: World) -> None:
    world.enrol(is_up=False)
    async with running(world):
        assert world.opened == []


async def test_down_returns_when_nothing_of_the_session_is_left(
    autojump_clock: MockClock, world: World
) -> None:
    world.enrol()
    async with running(world):
        world.opened[0].is_slow_to_end = True
        assert await world.node.change(is_up=False) is None
        assert world.opened[0].log == ["run", "leave", "close"]
        assert world.node.session is None


async def test_a_change_begins_the_new_session_only_after_the_old_one_and_the_new_state(
    autojump_clock: MockClock, world: World
) -> None:
    world.enrol("cdrd_old")
    async with running(world):
        world.opened[0].is_slow_to_end = True
        session = await world.node.change(device_token="cdrd_new")
        assert [opened is session for opened in world.opened] == [False, True]
        assert world.opened[0].over.is_set()
        assert [opened.identity.token for opened in world.opened] == ["cdrd_old", "cdrd_new"]
        await trio.testing.wait_all_tasks_blocked()
        assert world.opened[1].log == ["run"]


async def test_changes_at_once_take_turns_and_all_return(autojump_clock: MockClock, world: World) -> None:
    """The first one once waited for ever for a session that the second one had replaced."""
    world.enrol()
    done: list[str] = []

    async def change(name: str, act: Callable[[], Awaitable[object]]) -> None:
        await act()
        done.append(name)

    async with running(world) as nursery:
        with trio.fail_after(30):
            async with trio.open_nursery() as callers:
                for n in range(5):
                    callers.start_soon(change, f"up {n}", lambda: world.node.change(is_up=True))
                    callers.start_soon(change, f"down {n}", lambda: world.node.change(is_up=False))
                callers.start_soon(change, "forget", world.node.forget)
        assert len(done) == 11
        assert all(session.over.is_set() for session in world.opened if session is not world.node.session)
        nursery.cancel_scope.cancel()


async def test_a_caller_who_leaves_does_not_cut_a_change_in_half(
    autojump_clock: MockClock, world: World
) -> None:
    world.enrol()
    async with running(world):
        with trio.move_on_after(0.05):
            await world.node.change(is_up=False)
        assert world.node.session is None
        assert not world.store.current.is_up


async def test_logging_out_leaves_no_key_token_or_map_behind(autojump_clock: MockClock, world: World) -> None:
    world.enrol()
    key = world.store.current.node_key
    async with running(world):
        known = await world.node.forget()
        assert known.device_token == "cdrd_1"
        assert (world.store.current.device_token, world.store.current.url) == ("", "")
        assert world.store.current.node_key != key
        assert world.node.session is None


async def test_what_the_old_session_still_wrote_is_forgotten_too(
    autojump_clock: MockClock, world: World
) -> None:
    world.enrol()
    async with running(world):
        session = world.opened[0]
        leave = session.leave

        async def leave_and_write() -> None:
            await leave()
            world.store.update(resume_token="of the old identity")

        session.leave = leave_and_write
        await world.node.forget()
        assert world.store.current.resume_token == ""


async def test_a_refused_device_waits_and_knows_why(autojump_clock: MockClock, world: World) -> None:
    world.enrol()
    async with running(world):
        world.opened[0].refuse(REFUSED)
        await trio.testing.wait_all_tasks_blocked()
        assert world.node.session is None
        assert world.node.error is REFUSED
        assert not world.store.current.is_up
        assert await world.node.change(is_up=True) is world.opened[1]
        assert world.node.error is None


async def test_a_refused_workspace_ends_with_the_servers_word(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, NodeConfig(access_url="http://192.0.2.10:3000", token="cdrw_1"))
    with pytest.RaisesGroup(pytest.RaisesExc(UserError, match="refused"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.node.run)
            await trio.testing.wait_all_tasks_blocked()
            world.opened[0].refuse(REFUSED)


async def test_a_session_that_cannot_be_opened_is_the_callers_to_read_and_status_knows(
    autojump_clock: MockClock, world: World
) -> None:
    world.enrol(is_up=False)
    async with running(world):
        world.refusal = UserError("no UDP socket can be opened")
        with pytest.raises(UserError, match="UDP"):
            await world.node.change(is_up=True)
        assert world.node.error is world.refusal
        world.refusal = None
        assert await world.node.change(is_up=True) is world.opened[0]


async def test_ending_the_process_ends_a_change_that_waits_for_a_session_never_run(
    autojump_clock: MockClock, world: World
) -> None:
    world.enrol(is_up=False)
    with trio.fail_after(10):
        async with running(world) as nursery:
            await world.node.change(is_up=True)
            nursery.cancel_scope.cancel()
            await world.node.change(is_up=False)


async def test_a_device_whose_token_is_a_workspaces_waits_for_its_person_instead_of_serving(
    autojump_clock: MockClock, world: World
) -> None:
    """As a state file may have it from an earlier release, which believed its server."""
    world.enrol("cdrw_from_a_hostile_server")
    async with running(world):
        assert world.opened == []
        assert world.node.error is not None
        assert (world.node.error.code, world.node.error.exit_code) == ("wrong_kind", Exit.REFUSED)
        with pytest.raises(UserError, match="workspace's token"):
            await world.node.change(is_up=True)
        session = await world.node.change(device_token="cdrd_1")
        assert [opened is session for opened in world.opened] == [True]
        assert world.opened[0].identity.kind is NodeKind.DEVICE


async def test_a_devices_token_makes_no_workspace(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, NodeConfig(access_url="http://192.0.2.10:3000", token="cdrd_1"))
    with trio.fail_after(5), pytest.raises(UserError, match="device's") as caught:
        await world.node.run()
    assert (caught.value.code, caught.value.exit_code) == ("wrong_kind", Exit.REFUSED)


@pytest.mark.parametrize("token", ["cdrw_1", "rubbish"])
async def test_whoever_was_given_a_token_for_coderd_run_is_a_workspace(
    tmp_path: Path, autojump_clock: MockClock, token: str
) -> None:
    world = World(tmp_path, NodeConfig(access_url="http://192.0.2.10:3000", token=token))
    async with running(world):
        assert world.opened[0].identity.kind is NodeKind.WORKSPACE
        assert world.store.current.kind == "workspace"


@pytest.mark.parametrize(
    ("token", "kind"), [("cdrd_1", NodeKind.DEVICE), ("cdrw_1", NodeKind.WORKSPACE), ("", None)]
)
def test_a_state_file_of_an_earlier_release_tells_the_kind_by_its_tokens_prefix(
    world: World, token: str, kind: NodeKind | None
) -> None:
    world.enrol(token)
    assert world.store.current.kind == ""
    assert world.store.current.node_kind() is kind
