"""What each verb answers, and in which words it refuses, over a scripted session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from coderd.api.messages import DeviceEnrolled
from coderd.config.node import NodeConfig
from coderd.control.messages import (
    DebugParams,
    DialParams,
    DialTarget,
    Done,
    DownParams,
    LogoutParams,
    Message,
    PathBytes,
    PingParams,
    PingResult,
    Pong,
    Progress,
    Ready,
    SpeedtestParams,
    Status,
    StatusParams,
    UpParams,
    UpResult,
    Waiting,
    WhyParams,
)
from coderd.coordination.io.link_end import AWAITS_APPROVAL
from coderd.coordination.server_state import ServerState
from coderd.daemon import verbs
from coderd.daemon.diagnosis import measure
from coderd.daemon.status import node_status
from coderd.daemon.verbs import Verbs, device_name
from coderd.engine.io.answers import Pong as Answer
from coderd.model.addresses import tailnet_address
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import AbsentNode, NodeKind
from coderd.model.paths import PathKind, Pin
from tests.shell.daemon_world import DIRECT, RELAYED, World, make_netmap, make_peer

DEV = make_peer("ann/dev", 1)
BOBS = make_peer("bob/dev", 2)
PHONE = make_peer("ann/phone", 3, kind=NodeKind.DEVICE)
LOST = make_peer("ann/lost", 4, online=False)
GONE_ID = UUID(int=5)
GONE = AbsentNode(GONE_ID, NodeKind.WORKSPACE, "ann/gone", tailnet_address(GONE_ID))


@asynccontextmanager
async def joined(directory: Path, *, config: NodeConfig | None = None) -> AsyncIterator[tuple[World, Verbs]]:
    """A node that has joined, or waits for ``up`` where it was not enrolled before."""
    world = World(directory, config, make_netmap(DEV, PHONE, LOST, absent=(GONE,)))
    world.enrol()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.node.run)
        await trio.testing.wait_all_tasks_blocked()
        yield world, Verbs(world.node)
        nursery.cancel_scope.cancel()


async def test_ping_tells_each_pong_and_counts_them(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with joined(tmp_path) as (world, verb):
        answers = [Answer(RELAYED, 0.031), None, Answer(DIRECT, 0.012)]
        world.opened[0].tunnel.answer = lambda: answers.pop(0)
        result = await verb.handle("ping", PingParams(peer="dev", count=3), world.emit)
        assert result == PingResult(sent=3, received=2, direct=True, direct_after_s=0.0)
        assert world.said == [
            Pong(seq=1, path=PathKind.RELAY, via="coder", latency_ms=31.0),
            Pong(seq=2, timeout=True),
            Pong(seq=3, path=PathKind.DIRECT, via="203.0.113.7:41641", latency_ms=12.0),
        ]


async def test_ping_until_direct_stops_at_the_first_direct_pong(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):
        answers = [Answer(RELAYED, 0.031), Answer(DIRECT, 0.012)]
        world.opened[0].tunnel.answer = lambda: answers.pop(0)
        params = PingParams(peer="ann/dev", count=0, until_direct=True)
        world.opened[0].tunnel.path_now = replace(DIRECT, since=trio.current_time() + 0.21)
        result = await verb.handle("ping", params, world.emit)
        assert isinstance(result, PingResult)
        assert (result.sent, result.received, result.direct) == (2, 2, True)
        assert result.direct_after_s == pytest.approx(0.21)
        assert [said.direct_after_s for said in world.said if isinstance(said, Pong)] == [
            None,
            pytest.approx(0.21),
        ]


async def test_a_ping_goes_out_every_interval_and_the_last_one_is_not_waited_for(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):
        started = trio.current_time()
        await verb.handle("ping", PingParams(peer="dev", count=3, interval_s=2.0), world.emit)
        assert trio.current_time() - started == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("name", "code", "exit_code"),
    [
        ("nobody", "no_such_workspace", Exit.NO_SUCH_WORKSPACE),
        ("ann/gone", "offline", Exit.NO_PATH),
    ],
)
async def test_names_that_are_nobodys_and_names_of_the_absent_are_told_apart(
    autojump_clock: MockClock, tmp_path: Path, name: str, code: str, exit_code: Exit
) -> None:
    async with joined(tmp_path) as (world, verb):
        for params in (PingParams(peer=name), SpeedtestParams(peer=name), DialParams(peer=name, port=22)):
            with pytest.raises(UserError) as caught:
                await verb.handle("x", params, world.emit)
            assert (caught.value.code, caught.value.exit_code) == (code, exit_code)


@pytest.mark.parametrize(
    "params",
    [
        PingParams(peer="dev"),
        SpeedtestParams(peer="dev"),
        WhyParams(peer="dev"),
        DialParams(peer="dev", port=22),
    ],
)
async def test_a_bare_name_is_never_a_strangers_workspace(
    autojump_clock: MockClock, tmp_path: Path, params: PingParams | SpeedtestParams | WhyParams | DialParams
) -> None:
    """``nc dev`` went to a stranger's shared ``dev`` while one's own was offline."""
    own = AbsentNode(UUID(int=6), NodeKind.WORKSPACE, "ann/dev", tailnet_address(UUID(int=6)))
    async with joined(tmp_path) as (world, verb):
        if not isinstance(params, WhyParams):
            world.opened[0].netmap = make_netmap(BOBS, absent=(own,))
            with pytest.raises(UserError) as caught:
                await verb.handle("x", params, world.emit)
            assert caught.value.code == "offline"
        world.opened[0].netmap = make_netmap(BOBS)
        with pytest.raises(UserError) as caught:
            await verb.handle("x", params, world.emit)
        assert (caught.value.code, caught.value.exit_code) == ("no_such_workspace", Exit.NO_SUCH_WORKSPACE)
        assert caught.value.hint == "name another's with its owner: bob/dev"
        world.opened[0].netmap = make_netmap(DEV, BOBS)
        target = await verb.handle("x", DialParams(peer="dev", port=22), world.emit)
        assert isinstance(target, DialTarget)
        assert target.name == "ann/dev"


async def test_only_workspaces_are_dialled_and_measured(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with joined(tmp_path) as (world, verb):
        for params in (SpeedtestParams(peer="phone"), DialParams(peer="phone", port=22)):
            with pytest.raises(UserError, match="not a workspace"):
                await verb.handle("x", params, world.emit)


@pytest.mark.parametrize("count", [0, 5])
async def test_a_ping_ends_with_its_session_and_says_so(
    autojump_clock: MockClock, tmp_path: Path, count: int
) -> None:
    """It once pinged on for ever over closed sockets."""
    async with joined(tmp_path) as (world, verb):

        async def ping() -> None:
            with pytest.raises(UserError) as caught:
                await verb.handle("ping", PingParams(peer="dev", count=count), world.emit)
            assert caught.value.code == "down"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping)
            await world.heard.wait()
            assert await verb.handle("down", DownParams(), world.emit) == Done()


async def test_a_ping_whose_machine_joins_as_another_says_so(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):

        async def ping() -> None:
            with pytest.raises(UserError, match="joined anew"):
                await verb.handle("ping", PingParams(peer="dev", count=0), world.emit)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping)
            await world.heard.wait()
            await world.node.change(device_token="cdrd_2")


async def start_test(world: World, verb: Verbs, params: SpeedtestParams, n_events: int) -> None:
    """Runs a speed test until it has said so many things."""

    async def emit(event: Message) -> None:
        await world.emit(event)
        if len(world.said) >= n_events:
            scope.cancel()

    with trio.CancelScope() as scope:
        await verb.handle("speedtest", params, emit)


async def test_a_speedtest_says_where_to_dial_then_counts_and_lets_the_path_go_at_its_end(
    autojump_clock: MockClock,
    tmp_path: Path,
) -> None:
    async with joined(tmp_path) as (world, verb):
        tunnel = world.opened[0].tunnel
        await start_test(world, verb, SpeedtestParams(peer="dev"), 3)
        ready, *rest = world.said
        assert ready == Ready(
            name="ann/dev",
            address=str(DEV.address),
            path=PathKind.DIRECT,
            via="203.0.113.7:41641",
            latency_ms=12.0,
            secret="5e" * 32,
        )
        assert [type(event) for event in rest] == [PathBytes, PathBytes]
        assert tunnel.pins == []


@pytest.mark.parametrize("path", list(Pin))
async def test_a_speedtest_holds_its_path_while_it_lasts(
    autojump_clock: MockClock, tmp_path: Path, path: Pin
) -> None:
    async with joined(tmp_path) as (world, verb):
        pins: list[Pin] = []

        async def emit(event: Message) -> None:
            await world.emit(event)
            pins.append(world.opened[0].tunnel.pins[-1])
            if len(pins) == 3:
                scope.cancel()

        with trio.CancelScope() as scope:
            await verb.handle("speedtest", SpeedtestParams(peer="dev", path=path), emit)
        assert pins == [path] * 3


async def test_a_test_that_wants_a_direct_path_waits_aloud_and_then_fails(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):
        world.opened[0].tunnel.answer = lambda: Answer(RELAYED, 0.031)
        with pytest.raises(UserError) as caught:
            await verb.handle("speedtest", SpeedtestParams(peer="dev", path=Pin.DIRECT), world.emit)
        assert caught.value.exit_code == Exit.ONLY_RELAYED
        assert world.said[0] == Waiting(path=PathKind.RELAY, via="coder", latency_ms=31.0)
        assert len(world.said) == pytest.approx(measure.DIRECT_TIMEOUT, abs=1)


async def test_a_test_takes_the_relay_when_no_direct_path_opens_in_two_seconds(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):
        world.opened[0].tunnel.answer = lambda: Answer(RELAYED, 0.031)
        started = trio.current_time()
        await start_test(world, verb, SpeedtestParams(peer="dev"), 1)
        assert isinstance(world.said[0], Ready)
        assert world.said[0].path == "relay"
        assert trio.current_time() - started == pytest.approx(measure.DIRECT_GRACE, abs=0.2)


@pytest.mark.parametrize(("name", "code"), [("dev", "no_path"), ("lost", "offline")])
async def test_a_test_of_a_silent_peer_ends_with_what_is_known_of_it(
    autojump_clock: MockClock, tmp_path: Path, name: str, code: str
) -> None:
    async with joined(tmp_path) as (world, verb):
        world.opened[0].tunnel.answer = lambda: None
        with pytest.raises(UserError) as caught:
            await verb.handle("speedtest", SpeedtestParams(peer=name), world.emit)
        assert (caught.value.code, caught.value.exit_code) == (code, Exit.NO_PATH)
        assert world.opened[0].tunnel.pins == []


async def test_a_speedtest_ends_with_its_session_and_says_so(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):

        async def test() -> None:
            with pytest.raises(UserError, match="left its network"):
                await verb.handle("speedtest", SpeedtestParams(peer="dev"), world.emit)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(test)
            await world.heard.wait()
            await verb.handle("down", DownParams(), world.emit)
        assert world.opened[0].tunnel.pins == []


async def enrolled(
    url: str, token: str, *, name: str, node_key: object, own_token: str | None = None, tls: object = None
) -> DeviceEnrolled:
    """A server that gives every device the same token."""
    await trio.lowlevel.checkpoint()
    return DeviceEnrolled(id=UUID(int=7), name=name, owner="ann", address="::1", token="cdrd_2")


async def test_signing_in_forgets_what_an_earlier_identity_left(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its map once gave the interface the earlier identity's address until the server spoke."""
    monkeypatch.setattr(verbs, "enrol_device", enrolled)
    async with joined(tmp_path) as (world, verb):
        world.store.update(netmap=msgspec.Raw(b'{"of": "ann"}'), resume_token="ann's")
        params = UpParams(url="https://192.0.2.99:3000", token="cdrs_1", name="laptop")
        result = await verb.handle("up", params, world.emit)
        assert isinstance(result, UpResult)
        assert result.url == "https://192.0.2.99:3000"
        assert (bytes(world.store.current.netmap), world.store.current.resume_token) == (b"null", "")
        assert world.opened[1].identity.token == "cdrd_2"
        assert [event.text for event in world.said if isinstance(event, Progress)] == [
            "Signing in to https://192.0.2.99:3000",
            "Joining",
        ]


async def test_a_server_that_gives_up_a_workspaces_token_is_refused_and_the_session_left_alone(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hostile(*args: object, **kwargs: object) -> DeviceEnrolled:
        await trio.lowlevel.checkpoint()
        return DeviceEnrolled(id=UUID(int=7), name="x", owner="ann", address="::1", token="cdrw_2")

    monkeypatch.setattr(verbs, "enrol_device", hostile)
    async with joined(tmp_path) as (world, verb):
        before = world.store.current
        with pytest.raises(UserError, match="workspace's token") as caught:
            await verb.handle("up", UpParams(url="https://192.0.2.99:3000", token="cdrs_1"), world.emit)
        assert (caught.value.code, caught.value.exit_code) == ("wrong_kind", Exit.REFUSED)
        assert world.store.current == before
        assert len(world.opened) == 1


async def test_a_sign_in_that_is_refused_leaves_the_session_alone(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: object, **kwargs: object) -> DeviceEnrolled:
        await trio.lowlevel.checkpoint()
        raise UserError("the server does not know this token", exit_code=Exit.REFUSED)

    monkeypatch.setattr(verbs, "enrol_device", refuse)
    async with joined(tmp_path) as (world, verb):
        with pytest.raises(UserError, match="does not know"):
            await verb.handle("up", UpParams(url="https://192.0.2.99:3000", token="cdrs_0"), world.emit)
        assert world.opened[0].log == ["run"]
        assert world.store.current.device_token == "cdrd_1"


async def test_up_says_at_once_that_an_admin_must_approve_the_device(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):
        world.opened[0].joined = trio.Event()
        world.opened[0].server_state = ServerState(False, AWAITS_APPROVAL)
        with pytest.raises(UserError, match="waits for an admin's approval") as caught:
            await verb.handle("up", UpParams(), world.emit)
        assert (caught.value.code, caught.value.exit_code) == ("awaits_approval", Exit.REFUSED)
        assert trio.current_time() < 1


async def test_what_a_session_ended_of_is_told_with_what_to_do(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, _):
        world.opened[0].refuse(UserError("its time has ended", hint="Sign in again", code="expired"))
        await trio.testing.wait_all_tasks_blocked()
        assert node_status(world.node).health == ("its time has ended. Sign in again",)


async def test_up_while_up_disturbs_nothing(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with joined(tmp_path) as (world, verb):
        assert isinstance(await verb.handle("up", UpParams(), world.emit), UpResult)
        assert world.opened[0].log == ["run"]
        assert len(world.opened) == 1


async def test_what_is_accepted_changes_while_up_and_is_kept(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):
        await verb.handle("up", UpParams(accept_inbound="8000-8999, 22"), world.emit)
        assert world.opened[0].log == ["run", "accept"]
        assert world.store.current.accept_inbound == "22,8000-8999"
        await verb.handle("down", DownParams(), world.emit)
        await verb.handle("up", UpParams(), world.emit)
        assert world.store.current.accept_inbound == "22,8000-8999"
        await verb.handle("down", DownParams(), world.emit)
        await verb.handle("up", UpParams(accept_inbound="none"), world.emit)
        assert world.store.current.accept_inbound == "none"


async def test_a_device_that_is_new_accepts_nothing_unless_it_is_said(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "enrol_device", enrolled)
    async with joined(tmp_path) as (world, verb):
        await verb.handle("up", UpParams(accept_inbound="all"), world.emit)
        params = UpParams(url="https://192.0.2.99:3000", token="cdrs_1")
        await verb.handle("up", params, world.emit)
        assert world.store.current.accept_inbound == "none"
        await verb.handle("up", msgspec.structs.replace(params, accept_inbound="22"), world.emit)
        assert world.store.current.accept_inbound == "22"


async def test_ports_that_are_none_are_refused_before_anything_changes(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):
        with pytest.raises(UserError, match="--accept-inbound") as caught:
            await verb.handle("up", UpParams(accept_inbound="22,ssh"), world.emit)
        assert caught.value.exit_code is Exit.USAGE
        assert world.store.current.accept_inbound == "none"


async def test_up_after_down_joins_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with joined(tmp_path) as (world, verb):
        await verb.handle("down", DownParams(), world.emit)
        result = await verb.handle("up", UpParams(), world.emit)
        assert isinstance(result, UpResult)
        assert result.name == "ann/laptop"


async def test_up_gives_the_server_thirty_seconds_and_the_daemon_tries_on(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with joined(tmp_path) as (world, verb):
        await verb.handle("down", DownParams(), world.emit)
        world.joins_at_once = False
        with pytest.raises(UserError) as caught:
            await verb.handle("up", UpParams(), world.emit)
        assert caught.value.exit_code == Exit.UNREACHABLE
        assert world.node.session is world.opened[1]


async def test_up_tells_why_the_server_refused(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with joined(tmp_path) as (world, verb):
        await verb.handle("down", DownParams(), world.emit)
        world.joins_at_once = False

        async def refuse() -> None:
            await trio.sleep(1)
            world.opened[1].refuse(UserError("the server refused this node", exit_code=Exit.REFUSED))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse)
            with pytest.raises(UserError) as caught:
                await verb.handle("up", UpParams(), world.emit)
        assert caught.value.exit_code == Exit.REFUSED


async def test_logging_out_forgets_even_where_the_server_does_not_answer(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*args: object, **kwargs: object) -> None:
        await trio.lowlevel.checkpoint()
        raise UserError("the server cannot be reached", exit_code=Exit.UNREACHABLE)

    monkeypatch.setattr(verbs, "remove_device", unreachable)
    async with joined(tmp_path) as (world, verb):
        assert await verb.handle("logout", LogoutParams(), world.emit) == Done()
        assert world.store.current.device_token == ""
        told = [event.text for event in world.said if isinstance(event, Progress)]
        assert told[-1] == "The server keeps the device for now (the server cannot be reached)"


async def test_after_logging_out_everything_says_that_nobody_is_signed_in(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[tuple[object, ...]] = []

    async def remove(*args: object, **kwargs: object) -> None:
        await trio.lowlevel.checkpoint()
        removed.append(args)

    monkeypatch.setattr(verbs, "remove_device", remove)
    async with joined(tmp_path) as (world, verb):
        await verb.handle("logout", LogoutParams(), world.emit)
        assert removed == [("http://192.0.2.10:3000", "cdrd_1", "1")]
        questions: list[Message] = [PingParams(peer="dev"), UpParams(), DebugParams(action="rebind")]
        for params in questions:
            with pytest.raises(UserError) as caught:
                await verb.handle("x", params, world.emit)
            assert (caught.value.code, caught.value.exit_code) == ("logged_out", Exit.REFUSED)
        status = await verb.handle("status", StatusParams(), world.emit)
        assert isinstance(status, Status)
        assert (status.state, status.peers) == ("logged-out", ())


async def test_an_unattended_node_is_not_signed_in_taken_down_or_signed_out(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    config = NodeConfig(access_url="http://192.0.2.10:3000", token="cdrw_1")
    async with joined(tmp_path, config=config) as (world, verb):
        commands: list[Message] = [UpParams(), DownParams(), LogoutParams()]
        for params in commands:
            with pytest.raises(UserError):
                await verb.handle("x", params, world.emit)
        assert world.opened[0].log == ["run"]


@pytest.mark.parametrize(
    ("host", "label"),
    [("Ann's_laptop.example.com", "ann-s-laptop"), ("...", "device"), ("x" * 70, "x" * 63), ("-a-", "a")],
)
def test_a_hosts_name_becomes_a_label(host: str, label: str) -> None:
    assert device_name(host) == label
