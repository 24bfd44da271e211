import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from coderd.cli.coderctl import build_app
from coderd.cli.shell import run_app
from coderd.control.io import server as server_module
from coderd.control.io.client import ControlClient
from coderd.control.io.server import peer_caller, serve_control
from coderd.control.messages import (
    METHODS,
    PING,
    SPEEDTEST,
    STATUS,
    Done,
    PeerPath,
    PeerStatus,
    PingParams,
    PingResult,
    Pong,
    SpeedtestParams,
    Status,
    StatusParams,
)
from coderd.control.protocol import MAX_LINE, Caller, encode_request
from coderd.metrics import Counters
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind
from tests.shell.control_world import ScriptedHandler, daemon_thread, short_directory

STATUS_RESULT = Status(version="1", state="down", interface="coder0")
PONG = Pong(seq=1, path=PathKind.RELAY, via="coder", latency_ms=31.0)


@asynccontextmanager
async def served(handler: ScriptedHandler, **options: Any) -> AsyncIterator[Path]:
    with short_directory() as directory:
        path = directory / "s.sock"
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_control, path, handler, **options))
            yield path
            nursery.cancel_scope.cancel()


async def read_line(stream: trio.SocketStream) -> dict[str, object]:
    data = b""
    while not data.endswith(b"\n"):
        chunk = await stream.receive_some()
        assert chunk, f"closed after {data!r}"
        data += chunk
    parsed: dict[str, object] = json.loads(data)
    return parsed


# Who is calling


BECOME_AND_ASK = """
import json, os, socket, sys
uid, gid, groups = json.loads(sys.argv[3])
os.setgroups(groups)
os.setgid(gid)
os.setuid(uid)
codes = {}
for method, params in json.loads(sys.argv[2]).items():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sys.argv[1])
    request = {"v": 1, "id": 1, "method": method, "params": params}
    sock.sendall(json.dumps(request).encode() + b"\\n")
    answer = json.loads(sock.makefile().readline())
    codes[method] = answer["error"]["code"] if "error" in answer else "ok"
print(json.dumps(codes))
"""
PARAMS: dict[str, dict[str, object]] = {
    "ping": {"peer": "dev"},
    "why": {"peer": "dev"},
    "speedtest": {"peer": "dev"},
    "port-forward": {"peer": "dev", "port": 80},
    "nc": {"peer": "dev", "port": 80},
    "debug": {"action": "rebind"},
}
OPERATOR, MEMBER, OTHER, GROUP_ID = 61000, 61001, 61002, 61990
USERS = ((MEMBER, GROUP_ID), (MEMBER + 10, GROUP_ID), (OTHER, OTHER), (0, 0))
USE = {"status", "ping", "netcheck", "why", "derp-map", "speedtest", "port-forward", "nc"}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users, so it needs root")
@pytest.mark.parametrize(
    ("uid", "gid", "groups", "allowed"),
    [
        (0, 0, [], set(METHODS)),
        (OPERATOR, OPERATOR, [], set(METHODS)),
        (MEMBER, MEMBER, [27, GROUP_ID], USE),
        (MEMBER, GROUP_ID, [], USE),
        (OTHER, OTHER, [27], set()),
    ],
    ids=["root", "operator", "group member", "member by primary group", "other"],
)
def test_every_verb_against_every_kind_of_caller(
    uid: int, gid: int, groups: list[int], allowed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "group_id", lambda name: GROUP_ID)
    handler = ScriptedHandler(**{name.replace("-", "_"): ((), Done()) for name in METHODS})
    counters = Counters()
    with daemon_thread(handler, operator_uid=OPERATOR, counters=counters) as path:
        who = [uid, gid, groups]
        asked = {name: PARAMS.get(name, {}) for name in METHODS}
        done = subprocess.run(
            [sys.executable, "-I", "-c", BECOME_AND_ASK, str(path), json.dumps(asked), json.dumps(who)],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    codes = json.loads(done.stdout)
    assert codes == {name: "ok" if name in allowed else "not_allowed" for name in METHODS}
    assert len(handler.asked) == len(allowed)
    assert counters["control.refused"] == len(METHODS) - len(allowed)


def test_the_kernel_says_who_connected() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert peer_caller(left) == Caller(os.geteuid(), os.getegid(), frozenset(os.getgroups()))


def test_a_caller_whom_the_kernel_does_not_name_is_nobody() -> None:
    left, right = socket.socketpair(socket.AF_UNIX)
    left.close()
    right.close()
    assert peer_caller(right) is None


# The file


async def test_anyone_may_connect_and_nothing_is_left_behind() -> None:
    async with served(ScriptedHandler()) as path:
        assert path.stat().st_mode & 0o777 == 0o666
    assert not path.exists()


async def test_a_dead_daemon_s_socket_is_replaced() -> None:
    with short_directory() as directory:
        path = directory / "s.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_control, path, ScriptedHandler(status=((), STATUS_RESULT))))
            status = await trio.to_thread.run_sync(ask_status, path)
            nursery.cancel_scope.cancel()
        assert status == STATUS_RESULT


def ask_status(path: Path) -> Status:
    with ControlClient(path) as client:
        return client.call(STATUS, StatusParams())


async def test_a_living_daemon_s_socket_is_respected() -> None:
    async with served(ScriptedHandler()) as path:
        with pytest.raises(UserError, match="another daemon") as caught:
            await serve_control(path, ScriptedHandler())
        assert caught.value.code == "already_running"
        assert path.exists()


async def test_what_is_no_socket_is_not_replaced() -> None:
    with short_directory() as directory:
        path = directory / "s.sock"
        path.write_text("mine")
        with pytest.raises(UserError, match="not a socket"):
            await serve_control(path, ScriptedHandler())
        assert path.read_text() == "mine"


async def test_a_path_that_no_socket_can_have_is_wrong_usage() -> None:
    with pytest.raises(UserError) as caught:
        await serve_control(Path("/tmp") / ("x" * 200), ScriptedHandler())
    assert caught.value.exit_code is Exit.USAGE


# What is said


async def test_events_come_before_the_result() -> None:
    handler = ScriptedHandler(ping=((PONG,), PingResult(sent=1, received=1, direct=False)))

    def ask(path: Path) -> tuple[list[Pong], PingResult]:
        with ControlClient(path) as client:
            call = client.start(PING, PingParams(peer="dev", count=1))
            return list(call), call.result

    async with served(handler) as path:
        assert await trio.to_thread.run_sync(ask, path) == (
            [PONG],
            PingResult(sent=1, received=1, direct=False),
        )
    assert handler.asked == [PingParams(peer="dev", count=1)]


async def test_one_connection_serves_request_after_request() -> None:
    async with served(ScriptedHandler(status=((), STATUS_RESULT))) as path:
        stream = await trio.open_unix_socket(path)
        async with stream:
            for number in (1, 2, 3):
                await stream.send_all(encode_request(number, STATUS, StatusParams()))
                assert (await read_line(stream))["id"] == number


async def test_a_caller_who_leaves_cancels_its_request() -> None:
    handler = ScriptedHandler(speedtest=((), None))
    async with served(handler) as path:
        stream = await trio.open_unix_socket(path)
        await stream.send_all(encode_request(1, SPEEDTEST, SpeedtestParams(peer="dev")))
        with trio.fail_after(5):
            await handler.started.wait()
            await stream.aclose()
            await handler.cancelled.wait()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "malformed"),
        (b"\x00\xff" * 50 + b"\n", "malformed"),
        (b'{"v":1,"id":1,"method":"reboot"}\n', "unknown_method"),
        (b"x" * MAX_LINE, "too_long"),
    ],
)
async def test_hostile_bytes_are_answered_and_counted(sent: bytes, code: str) -> None:
    counters = Counters()
    async with served(ScriptedHandler(status=((), STATUS_RESULT)), counters=counters) as path:
        async with await trio.open_unix_socket(path) as stream:
            with trio.fail_after(5):
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(sent)
                error = (await read_line(stream))["error"]
        assert isinstance(error, dict)
        assert error["code"] == code
        assert counters[f"control.drop.{code}"] == 1
        assert await trio.to_thread.run_sync(ask_status, path) == STATUS_RESULT


async def test_a_flood_of_requests_ends_the_connection_and_its_work() -> None:
    counters = Counters()
    handler = ScriptedHandler(speedtest=((), None))
    async with served(handler, counters=counters) as path, await trio.open_unix_socket(path) as stream:
        with trio.fail_after(5):
            with suppress(trio.BrokenResourceError):
                await stream.send_all(encode_request(1, SPEEDTEST, SpeedtestParams(peer="dev")) * 100)
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
    assert counters["control.drop.too_many_requests"] == 1


async def test_an_error_inside_nested_nurseries_is_still_the_caller_s_to_read() -> None:
    class Nested(ScriptedHandler):
        async def handle(self, *_: object) -> Done:
            async with trio.open_nursery():
                raise UserError("dev is offline", exit_code=Exit.NO_PATH)

    async with served(Nested()) as path:
        with pytest.raises(UserError, match="dev is offline") as caught:
            await trio.to_thread.run_sync(ask_status, path)
    assert caught.value.exit_code is Exit.NO_PATH


async def test_a_defect_of_ours_costs_one_request_and_not_the_daemon() -> None:
    class Broken(ScriptedHandler):
        n_asked = 0

        async def handle(self, *_: object) -> Status:
            self.n_asked += 1
            if self.n_asked == 1:
                raise ZeroDivisionError("secret detail")
            return STATUS_RESULT

    counters = Counters()
    async with served(Broken(), counters=counters) as path:
        with pytest.raises(UserError, match="defect") as caught:
            await trio.to_thread.run_sync(ask_status, path)
        assert "secret" not in caught.value.message
        assert await trio.to_thread.run_sync(ask_status, path) == STATUS_RESULT
    assert counters["control.internal_error"] == 1


async def test_a_caller_who_does_not_read_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    handler = ScriptedHandler(ping=([PONG] * 20_000, PingResult(sent=1, received=1, direct=False)))
    counters = Counters()
    async with served(handler, counters=counters) as path:
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(encode_request(1, PING, PingParams(peer="dev")))
            with trio.fail_after(60):
                await handler.cancelled.wait()
        assert counters["control.caller_gone"] == 1


async def test_a_silent_caller_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with served(ScriptedHandler()) as path, await trio.open_unix_socket(path) as stream:
        with trio.fail_after(60):
            assert await stream.receive_some() == b""


async def test_too_many_callers_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_MANAGERS_CONNECTIONS", 1)
    async with (
        served(ScriptedHandler(status=((), STATUS_RESULT))) as path,
        await trio.open_unix_socket(path) as first,
        await trio.open_unix_socket(path) as second,
    ):
        with trio.fail_after(5):
            error = (await read_line(second))["error"]
            await first.send_all(encode_request(1, STATUS, StatusParams()))
            assert "result" in await read_line(first)
    assert isinstance(error, dict)
    assert error["code"] == "busy"


async def test_places_are_kept_apart_and_who_has_the_fewest_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two, other, root = (Caller(uid, gid, frozenset()) for uid, gid in USERS)
    callers = [one, one, other, other, two, root]
    monkeypatch.setattr(server_module, "peer_caller", lambda sock: callers.pop(0))
    monkeypatch.setattr(server_module, "group_id", lambda name: GROUP_ID)
    for kind, limit in {"USERS": 2, "USERS_CONNECTIONS_EACH": 2, "OTHERS": 1}.items():
        name = f"MAX_{kind}" if kind.endswith("EACH") else f"MAX_{kind}_CONNECTIONS"
        monkeypatch.setattr(server_module, name, limit)
    async with served(ScriptedHandler(status=((), STATUS_RESULT))) as path, AsyncExitStack() as stack:
        first, second, others, too_many, newcomer, roots = [
            await stack.enter_async_context(await trio.open_unix_socket(path)) for _ in range(6)
        ]
        with trio.fail_after(5):
            assert await second.receive_some() == b""  # whose place the newcomer took
            assert "busy" in str(await read_line(too_many))
            for allowed in (first, newcomer, roots):
                await allowed.send_all(encode_request(1, STATUS, StatusParams()))
                assert "result" in await read_line(allowed)
            await others.send_all(encode_request(1, STATUS, StatusParams()))
            assert "not_allowed" in str(await read_line(others))


FLOOD = """
import os, socket, sys
os.setgroups([]); os.setgid(61002); os.setuid(61002)
kept, n_made = [], 0
while n_made < 10_000:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        sock.connect(sys.argv[1])
    except BlockingIOError:
        continue
    n_made += 1
    kept = [*kept, sock][-500:]
    if n_made == 1000:
        print(n_made, flush=True)
"""


@pytest.mark.alone("opens ten thousand connections")
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, so it needs root")
def test_ten_thousand_connections_of_another_user_cost_root_nothing_but_a_moment() -> None:
    counters = Counters()
    with daemon_thread(ScriptedHandler(status=((), STATUS_RESULT)), counters=counters) as path:
        with subprocess.Popen(
            [sys.executable, "-I", "-c", FLOOD, str(path)], stdout=subprocess.PIPE, text=True
        ) as flood:
            assert flood.stdout is not None
            assert flood.stdout.readline() == "1000\n"
            took = []
            while flood.poll() is None:
                began = time.monotonic()
                assert ask_status(path) == STATUS_RESULT
                took.append(time.monotonic() - began)
        assert flood.returncode == 0
        assert ask_status(path) == STATUS_RESULT
    assert took
    assert max(took) < 5
    assert counters["control.drop.too_many_connections"] > 1000


# The client's own errors


def test_no_daemon_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        ControlClient(tmp_path / "none.sock")
    assert caught.value.exit_code is Exit.UNREACHABLE


def test_a_daemon_that_says_nothing_times_out() -> None:
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(directory / "s"))
        mute.listen()
        with ControlClient(directory / "s") as client, pytest.raises(UserError) as caught:
            client.call(STATUS, StatusParams(), patience=0.05)
    assert caught.value.exit_code is Exit.TIMED_OUT


def test_a_daemon_that_dies_in_the_middle_is_unreachable() -> None:
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as dying:
        dying.bind(str(directory / "s"))
        dying.listen()
        with ControlClient(directory / "s") as client:
            call = client.start(STATUS, StatusParams())
            dying.accept()[0].close()
            with pytest.raises(UserError) as caught:
                list(call)
    assert caught.value.exit_code is Exit.UNREACHABLE


@pytest.mark.parametrize("n_peers", [3_000, 20_000])
def test_a_status_of_any_size_is_shown(n_peers: int, capfd: pytest.CaptureFixture[str]) -> None:
    peers = tuple(
        PeerStatus(
            name=f"bob/w{number}",
            id="5f0c2a52-6b43-4f0e-9d5e-0c7f7f0e8a11",
            kind=NodeKind.WORKSPACE,
            address="fd60:627a:a42b:2f01:2f01:2f01:2f01:1",
            online=False,
            node_key="",
            path=PeerPath(kind=PathKind.NONE),
        )
        for number in range(n_peers)
    )
    status = Status(version="1", state="running", interface="coder0", peers=peers)
    with daemon_thread(ScriptedHandler(status=((), status))) as path:
        with ControlClient(path) as client:
            assert client.call(STATUS, StatusParams()) == status
        assert run_app(build_app(), "coderctl", ["status", "--socket", str(path)]) == Exit.DONE
    assert len(capfd.readouterr().out.splitlines()) == n_peers + 2
