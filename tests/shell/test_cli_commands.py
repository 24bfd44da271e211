"""coderctl against a scripted daemon: what it prints, where, and how it ends."""

import json
import math
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from coderd.cli import coderctl, coderd
from coderd.cli.shell import run_app
from coderd.control.io.server import Emit
from coderd.control.messages import (
    DebugResult,
    DialTarget,
    Done,
    Message,
    PathBytes,
    PeerPath,
    PeerStatus,
    PingResult,
    Pong,
    Progress,
    Ready,
    Region,
    SelfStatus,
    ServerStatus,
    Status,
    UpParams,
    UpResult,
    Waiting,
)
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind
from coderd.speedtest.io.server import serve_speedtest
from tests.shell.control_world import ScriptedHandler, daemon_thread, running
from tests.shell.node_api_world import serve_anybody

DIRECT = Pong(seq=1, path=PathKind.DIRECT, via="203.0.113.7:41641", latency_ms=9.2)
RELAYED = Pong(seq=2, path=PathKind.RELAY, via="coder", latency_ms=31.4)
LOST = Pong(seq=3, timeout=True)

STATUS = Status(
    version="0.1.0",
    state="running",
    interface="coder0",
    self_node=SelfStatus(
        name="ann/laptop", id="1", kind=NodeKind.DEVICE, address="fd60:627a:a42b::1", node_key="nodekey:00"
    ),
    server=ServerStatus(url="http://192.0.2.10:3000", connected=True),
    home_region=Region(id=999, code="coder"),
    peers=(
        PeerStatus(
            name="ann/dev",
            id="2",
            kind=NodeKind.WORKSPACE,
            address="fd60:627a:a42b::22",
            online=True,
            node_key="nodekey:01",
            path=PeerPath(kind=PathKind.DIRECT, via="203.0.113.7:41641", latency_ms=12.0),
            last_handshake_s=12.0,
            tx_bytes=1_258_291,
            rx_bytes=308,
        ),
    ),
)


def ctl(*arguments: str) -> int:
    return run_app(coderctl.build_app(), "coderctl", list(arguments))


@contextmanager
def daemon(monkeypatch: pytest.MonkeyPatch, handler: ScriptedHandler) -> Iterator[Path]:
    with daemon_thread(handler) as path:
        monkeypatch.setenv("CODERD_SOCKET", str(path))
        yield path


@pytest.fixture(autouse=True)
def _quiet_and_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("CODER_URL", "CODERD_SOCKET", "CODERD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    with capture_logs():
        yield


# status


def test_status_is_short_and_aligned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon(monkeypatch, ScriptedHandler(status=((), STATUS))):
        assert ctl("status") == Exit.DONE
    assert capsys.readouterr() == (
        "ann/laptop  fd60:627a:a42b::1   this machine\n"
        "ann/dev     fd60:627a:a42b::22  direct 203.0.113.7:41641, 12ms  tx 1.2 MiB  rx 308 B  handshake 12s ago\n"
        "\n"
        'server http://192.0.2.10:3000, connected; home relay "coder"\n',
        "",
    )


def test_status_as_json_has_every_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon(monkeypatch, ScriptedHandler(status=((), STATUS))):
        assert ctl("status", "--json") == Exit.DONE
    shown = json.loads(capsys.readouterr().out)
    assert shown["self"]["name"] == "ann/laptop"
    assert shown["peers"][0]["path"] == {
        "kind": "direct",
        "via": "203.0.113.7:41641",
        "latency_ms": 12.0,
        "since_s": None,
    }


def test_metrics_are_the_status_as_prometheus_reads_it(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    now = msgspec.structs.replace(STATUS, counters={"wireguard.drop.replay": 3})
    file = tmp_path / "coderd.prom"
    with daemon(monkeypatch, ScriptedHandler(status=((), now))):
        assert ctl("metrics") == Exit.DONE
        assert ctl("metrics", "--output", str(file)) == Exit.DONE
        assert ctl("metrics", "--output", str(tmp_path / "nowhere" / "x")) == Exit.FAILED
    shown = capsysbinary.readouterr().out
    assert file.read_bytes() == shown
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(shown.decode())
        for sample in family.samples
    }
    assert values["coderd_events_total", "wireguard.drop.replay"] == 3
    assert values["coderd_peer_path", "ann/dev", "direct"] == 1
    assert values["coderd_peer_latency_seconds", "ann/dev"] == 0.012
    assert values["coderd_server_connected",] == 1


@pytest.mark.parametrize(
    ("state", "sentence"), [("logged-out", "Not signed in."), ("down", "Left the network.")]
)
def test_a_node_that_has_not_joined_says_so_and_ends_1(
    state: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = Status(version="0.1.0", state="logged-out" if state == "logged-out" else "down", interface="coder0")
    with daemon(monkeypatch, ScriptedHandler(status=((), now))):
        assert ctl("status") == Exit.FAILED
        assert ctl("status", "--json") == Exit.DONE
    assert sentence in capsys.readouterr().out


def test_no_daemon_ends_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl("status", "--socket", "/nonexistent/coderd.sock") == Exit.UNREACHABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "coderctl: the daemon is not running: nothing listens on /nonexistent/coderd.sock\n"
        "  Start it with: sudo systemctl start coderd (or sudo coderd run).\n"
    )


def test_status_pays_for_no_event_loop_and_no_http(monkeypatch: pytest.MonkeyPatch) -> None:
    check = (
        "import sys\n"
        "from coderd.cli import coderctl\n"
        "from coderd.cli.shell import run_app\n"
        "assert run_app(coderctl.build_app(), 'coderctl', ['status']) == 0\n"
        "heavy = {'trio', 'httpx', 'sqlalchemy', 'starlette', 'rich', 'numpy', 'cryptography', 'asyncio'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    with daemon(monkeypatch, ScriptedHandler(status=((), STATUS))):
        done = subprocess.run(
            [sys.executable, "-c", check], check=False, timeout=20, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr


# ping


def test_ping_shows_path_and_time_of_each_pong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    became_direct = msgspec.structs.replace(DIRECT, direct_after_s=0.208)
    pongs = (became_direct, RELAYED, LOST)
    handler = ScriptedHandler(ping=(pongs, PingResult(sent=3, received=2, direct=True)))
    with daemon(monkeypatch, handler):
        assert ctl("ping", "dev", "-c", "3") == Exit.DONE
    assert capsys.readouterr().out == (
        "pong from dev via 203.0.113.7:41641 in 9ms\n"
        "direct after 0.21 s\n"
        'pong from dev via relay "coder" in 31ms\n'
        "no pong from dev within 5s\n"
    )


@pytest.mark.parametrize(
    ("received", "direct", "flags", "code"),
    [
        (1, False, [], Exit.DONE),
        (0, False, [], Exit.TIMED_OUT),
        (1, True, ["--until-direct"], Exit.DONE),
        (1, False, ["--until-direct"], Exit.ONLY_RELAYED),
        (0, False, ["--until-direct"], Exit.NO_PATH),
    ],
)
def test_how_ping_ends(
    received: int, direct: bool, flags: list[str], code: Exit, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = PingResult(sent=1, received=received, direct=direct)
    with daemon(monkeypatch, ScriptedHandler(ping=((), result))):
        assert ctl("ping", "dev", *flags) == code


def test_ping_as_json_is_a_line_per_pong_and_one_for_the_totals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pongs = (msgspec.structs.replace(DIRECT, direct_after_s=0.21),)
    handler = ScriptedHandler(ping=(pongs, PingResult(sent=1, received=1, direct=True, direct_after_s=0.21)))
    with daemon(monkeypatch, handler):
        assert ctl("ping", "dev", "--json") == Exit.DONE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {
            "seq": 1,
            "path": "direct",
            "via": "203.0.113.7:41641",
            "latency_ms": 9.2,
            "direct_after_s": 0.21,
            "timeout": False,
        },
        {"sent": 1, "received": 1, "direct": True, "direct_after_s": 0.21},
    ]


@pytest.mark.parametrize("code", [Exit.REFUSED, Exit.NO_SUCH_WORKSPACE, Exit.TIMED_OUT, Exit.NO_PATH])
def test_the_daemon_s_exit_code_and_hint_are_the_command_s(
    code: Exit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = UserError("the workspace is not there", exit_code=code, hint="Look for it.")
    with daemon(monkeypatch, ScriptedHandler(ping=((), error))):
        assert ctl("ping", "dev") == code
    assert capsys.readouterr().err == "coderctl: the workspace is not there\n  Look for it.\n"


# Usage, interruptions, defects


@pytest.mark.parametrize(
    "arguments",
    [
        ["ping"],
        ["ping", "dev", "--nonsense"],
        ["ping", "dev", "-i", "soon"],
        ["ping", "dev", "-c", "many"],
        ["nonsense"],
        ["speedtest", "dev", "--direct", "--relay"],
        ["speedtest", "dev", "--direction", "sideways"],
        ["speedtest", "dev", "-t", "1h"],
        ["port-forward", "dev"],
        ["port-forward", "dev", "0"],
        ["port-forward", "dev", "80:x"],
        ["nc", "dev", "70000"],
        ["up", "ftp://server"],
        ["up", "https://server", "--token-file", "/nonexistent"],
        ["workspaces", "list"],
        [],
    ],
)
def test_wrong_usage_ends_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl(*arguments) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["--help"], ["ping", "--help"], ["workspaces", "create", "-h"]])
def test_help_comes_with_examples(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl(*arguments) == Exit.DONE
    out = capsys.readouterr().out
    assert "\n    coderctl " in out or "\n    sudo coderctl " in out
    assert "``" not in out


def test_elsewhere_than_on_a_new_linux_it_ends_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert ctl("status") == Exit.USAGE
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.release", lambda: "4.19.0-27-amd64")
    assert ctl("status") == Exit.USAGE
    err = capsys.readouterr().err
    assert err.count("Linux 5.10 or newer") == 2


def test_a_defect_is_a_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("coderd.cli.status.ask_status", explode)
    assert ctl("status") == Exit.FAILED
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert "Traceback" not in err


def spawn(*arguments: str, **options: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "coderd.cli.coderctl", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.slow
def test_an_interrupt_ends_130_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = ScriptedHandler(ping=((DIRECT,), None))
    with daemon(monkeypatch, handler), spawn("ping", "dev", "-c", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"pong")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (Exit.INTERRUPTED, b"")


@pytest.mark.slow
def test_a_reader_who_leaves_is_no_reason_to_complain(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = ScriptedHandler(ping=([DIRECT] * 5000, PingResult(sent=1, received=1, direct=True)))
    with daemon(monkeypatch, handler), spawn("ping", "dev") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=10)
        assert process.stderr is not None
        assert process.stderr.read() == b""


# up, down, logout, debug

TOKEN = "cdrs_0123456789"
JOINED = UpResult(name="ann/laptop", address="fd60:627a:a42b::1", url="https://192.0.2.10:3000")


def test_up_takes_a_token_from_a_file_and_keeps_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    handler = ScriptedHandler(up=((Progress(text="Joining"),), JOINED), logout=((), Done()))
    with daemon(monkeypatch, handler):
        assert ctl("up", "https://192.0.2.10:3000/", "--token-file", str(token_file)) == Exit.DONE
        out, err = capsys.readouterr()
        session = tmp_path / "coderd" / "session.json"
        assert json.loads(session.read_text()) == {"url": "https://192.0.2.10:3000", "token": TOKEN}
        assert stat.S_IMODE(session.stat().st_mode) == 0o600
        assert ctl("logout") == Exit.DONE
        assert not session.exists()
    assert handler.asked[0] == UpParams(url="https://192.0.2.10:3000", token=TOKEN)
    assert out == "Joined https://192.0.2.10:3000 as ann/laptop, fd60:627a:a42b::1\n"
    assert err == "Joining...\n"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--token-file", "-"]])
def test_up_takes_a_token_from_a_pipe(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    handler = ScriptedHandler(up=((), JOINED))
    with (
        daemon(monkeypatch, handler),
        spawn("up", "https://192.0.2.10:3000", *flags, stdin=subprocess.PIPE) as process,
    ):
        process.communicate(TOKEN.encode() + b"\n", timeout=10)
    assert process.returncode == Exit.DONE
    assert handler.asked == [UpParams(url="https://192.0.2.10:3000", token=TOKEN)]


def test_a_saved_token_goes_to_its_own_origin_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coderd").mkdir()
    (tmp_path / "coderd" / "session.json").write_text(
        json.dumps({"url": "https://192.0.2.10:3000", "token": TOKEN})
    )
    handler = ScriptedHandler(up=((), JOINED))
    with daemon(monkeypatch, handler), open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert ctl("up", "https://192.0.2.10:3001") == Exit.REFUSED
        assert ctl("up", "http://192.0.2.10:3000", "--insecure") == Exit.REFUSED
        assert handler.asked == []
        assert ctl("up", "https://192.0.2.10:3000") == Exit.DONE
    assert handler.asked == [UpParams(url="https://192.0.2.10:3000", token=TOKEN)]


def test_up_without_a_url_joins_as_before_and_down_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = ScriptedHandler(up=((), JOINED), down=((), Done()), debug=((), DebugResult(text="done")))
    with daemon(monkeypatch, handler):
        assert ctl("up") == Exit.DONE
        assert ctl("down") == Exit.DONE
        assert ctl("debug", "rebind") == Exit.DONE
        assert ctl("up", "--accept-inbound", "22") == Exit.DONE
    assert handler.asked[0] == UpParams()
    assert handler.asked[-1] == UpParams(accept_inbound="22")
    assert "Left the network\n" in capsys.readouterr().out


# speedtest


class SpeedtestDaemon(ScriptedHandler):
    """Says ready, then samples of its counters for as long as it is asked.

    Args:
        ready: what it says.
        begun: set when the other end begins the test, however long that takes on a busy machine.
        relayed_after: seconds from then on that bytes go directly; later ones are relayed.
    """

    def __init__(
        self, ready: Ready, *, begun: threading.Event | None = None, relayed_after: float = math.inf
    ) -> None:
        super().__init__(status=((), STATUS))
        self._ready = ready
        self._begun = begun
        self._relayed_after = relayed_after

    async def handle(self, method: str, params: Message, emit: Emit) -> Message:
        if method != "speedtest":
            return await super().handle(method, params, emit)
        self.asked.append(params)
        await emit(Waiting(path=PathKind.RELAY, via="coder", latency_ms=29.0))
        await emit(self._ready)
        direct = relay = 0
        begun_at: float | None = None
        while True:
            now = trio.current_time()
            if begun_at is None and (self._begun is None or self._begun.is_set()):
                begun_at = now
            if begun_at is not None and now - begun_at >= self._relayed_after:
                relay += 1000
            else:
                direct += 1000
            await emit(
                PathBytes(tx_direct_bytes=0, tx_relay_bytes=0, rx_direct_bytes=direct, rx_relay_bytes=relay)
            )
            await trio.sleep(0.02)


@contextmanager
def speedtest_port(begun: threading.Event | None = None) -> Iterator[int]:
    def pin(peer: str, path: object) -> AbstractContextManager[None]:
        if begun is not None:
            begun.set()
        return nullcontext()

    async def serve(task_status: trio.TaskStatus[int]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await serve_speedtest(listeners, lambda ip: ip, pin)

    with running(serve) as port:
        assert isinstance(port, int)
        yield port


def ready(port: int, *, relay: bool = False) -> Ready:
    via = "coder" if relay else "203.0.113.7:41641"
    path = "relay" if relay else "direct"
    return Ready(
        name="ann/dev",
        address="127.0.0.1",
        port=port,
        path=PathKind.RELAY if path == "relay" else PathKind.DIRECT,
        via=via,
        latency_ms=9.4,
    )


@pytest.mark.slow
def test_speedtest_prints_path_start_and_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with speedtest_port() as port, daemon(monkeypatch, SpeedtestDaemon(ready(port))):
        assert ctl("speedtest", "dev", "-t", "300ms", "--direct") == Exit.DONE
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[:2] == ["9ms via direct (203.0.113.7:41641)", "Starting a 0.3s download test..."]
    assert lines[2].split() == ["INTERVAL", "TRANSFER", "BANDWIDTH"]
    assert lines[-1].startswith("0.00-0.3")
    assert set(lines[-2]) == {"-"}
    assert err == "Waiting for a direct connection... (29ms via coder)\n"


@pytest.mark.slow
def test_speedtest_as_json_names_the_path_that_carried_the_bytes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = threading.Event()
    with (
        speedtest_port(begun) as port,
        daemon(monkeypatch, SpeedtestDaemon(ready(port), begun=begun, relayed_after=0.5)),
    ):
        assert ctl("speedtest", "dev", "-t", "1.2s", "--json") == Exit.DONE
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["workspace"], told["direction"]) == ("dev", "down")
    assert told["path"]["kind"] == "mixed"
    assert [row["path"] for row in told["intervals"]] == ["mixed", "relay"]
    assert told["overall"]["megabits"] > 0
    assert "The path changed" in err


@pytest.mark.slow
def test_speedtest_direct_fails_when_the_relay_took_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with speedtest_port() as port, daemon(monkeypatch, SpeedtestDaemon(ready(port), relayed_after=0)):
        assert ctl("speedtest", "dev", "-t", "200ms", "--direct") == Exit.ONLY_RELAYED
    assert "the relay took over" in capsys.readouterr().err


def test_speedtest_to_an_offline_workspace_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = UserError("ann/dev is offline", exit_code=Exit.NO_PATH)
    with daemon(monkeypatch, ScriptedHandler(speedtest=((), error))):
        assert ctl("speedtest", "dev") == Exit.NO_PATH
    assert capsys.readouterr() == ("", "coderctl: ann/dev is offline\n")


@pytest.mark.slow
def test_an_interrupted_speedtest_ends_130_and_lets_the_path_go(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = SpeedtestDaemon(ready(1))
    with speedtest_port() as port:
        handler = SpeedtestDaemon(ready(port))
        with daemon(monkeypatch, handler), spawn("speedtest", "dev", "-t", "60s") as process:
            assert process.stdout is not None
            while b"Starting" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
    assert process.returncode == Exit.INTERRUPTED
    assert b"Traceback" not in err


# nc and port-forward


@contextmanager
def shouting_workspace(secret: str = "") -> Iterator[tuple[ScriptedHandler, int]]:
    """A workspace's node API, which wants this secret shown, and a service behind it that answers in capitals once it has heard everything."""

    async def shout(stream: trio.SocketStream) -> None:
        heard = b"".join([chunk async for chunk in stream])
        await stream.send_all(heard.upper())
        await stream.aclose()

    async def serve(task_status: trio.TaskStatus[tuple[int, int]]) -> None:
        async with trio.open_nursery() as nursery:
            api = await trio.open_tcp_listeners(0, host="127.0.0.1")
            service = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(partial(serve_anybody, api, secret=secret))
            nursery.start_soon(trio.serve_listeners, shout, service)
            task_status.started((api[0].socket.getsockname()[1], service[0].socket.getsockname()[1]))

    with running(serve) as ports:
        assert isinstance(ports, tuple)
        target = DialTarget(name="ann/dev", address="127.0.0.1", api_port=ports[0], secret=secret)
        yield ScriptedHandler(nc=((), target), port_forward=((), target)), ports[1]


@pytest.mark.slow
def test_nc_passes_both_directions_and_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"hello\x00" * 50_000
    with (
        shouting_workspace() as (handler, port),
        daemon(monkeypatch, handler),
        spawn("nc", "dev", str(port), stdin=subprocess.PIPE) as process,
    ):
        out, err = process.communicate(said, timeout=20)
    assert (process.returncode, err) == (0, b"")
    assert out == said.upper()


@pytest.mark.slow
def test_nc_says_when_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
    with (
        shouting_workspace() as (handler, _),
        daemon(monkeypatch, handler),
        spawn("nc", "dev", str(free), stdin=subprocess.DEVNULL) as process,
    ):
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (Exit.FAILED, b"")
    assert err == f"coderctl: nothing listens on port {free} of the workspace\n".encode()


@pytest.mark.slow
def test_port_forward_carries_connections_until_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        local = closed.getsockname()[1]
    with (
        shouting_workspace() as (handler, port),
        daemon(monkeypatch, handler),
        spawn("port-forward", "dev", f"127.0.0.1:{local}:{port}") as process,
    ):
        assert process.stderr is not None
        assert (
            process.stderr.readline()
            == (
                f"Forwarding 'tcp://127.0.0.1:{local}' locally to 'tcp://127.0.0.1:{port}' in the workspace\n"
            ).encode()
        )
        assert process.stderr.readline() == b"Ready!\n"
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", local), timeout=10) as stream:
                stream.sendall(b"hello")
                stream.shutdown(socket.SHUT_WR)
                assert stream.makefile("rb").read() == b"HELLO"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (Exit.INTERRUPTED, b"")


@pytest.mark.slow
def test_commands_show_the_secret_of_the_daemon_and_ask_for_it_anew_where_the_daemon_has_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = "5e" * 32
    with socket.create_server(("127.0.0.1", 0)) as closed:
        local = closed.getsockname()[1]
    with shouting_workspace(secret) as (handler, port), daemon(monkeypatch, handler):
        with spawn("nc", "dev", str(port), stdin=subprocess.PIPE) as process:
            assert process.communicate(b"hello", timeout=20) == (b"HELLO", b"")
            assert process.returncode == 0
        _, current = handler.answers["port-forward"]
        assert isinstance(current, DialTarget)
        handler.answers["port-forward"] = ((), msgspec.structs.replace(current, secret="01" * 32))
        with spawn("port-forward", "dev", f"127.0.0.1:{local}:{port}") as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith(b"Forwarding")
            assert process.stderr.readline() == b"Ready!\n"
            assert secret not in Path(f"/proc/{process.pid}/cmdline").read_text()
            handler.answers["port-forward"] = ((), current)
            with socket.create_connection(("127.0.0.1", local), timeout=10) as stream:
                stream.sendall(b"hello")
                stream.shutdown(socket.SHUT_WR)
                assert stream.makefile("rb").read() == b"HELLO"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)


@pytest.mark.slow
def test_a_local_port_that_is_taken_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        shouting_workspace() as (handler, port),
        daemon(monkeypatch, handler),
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with spawn("port-forward", "dev", f"{where}:{port}") as process:
            _, err = process.communicate(timeout=20)
    assert process.returncode == Exit.FAILED
    assert err.startswith(f"coderctl: cannot listen on {where}: ".encode())
    assert b"Traceback" not in err


# coderd


@pytest.mark.parametrize(
    "arguments",
    [
        ["server"],
        ["server", "--access-url", "nonsense"],
        ["server", "--config", "/nonexistent.toml"],
        ["server", "--access-url", "http://x", "--derp-config-url", "--derp-config-path", "/x"],
        ["server", "--access-url", "http://x", "--no-derp-server-enable"],
        ["run", "--mtu", "576"],
        ["run", "--interface", "a/b"],
        ["run", "--operator", "no-such-user"],
        ["run", "--access-url", "https://192.0.2.10:3000"],
        ["run", "--token-file", "/dev/null"],
        ["nonsense"],
    ],
)
def test_coderd_refuses_wrong_usage_with_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("CODER_ACCESS_URL", "CODER_AGENT_URL", "CODER_AGENT_TOKEN", "CODER_AGENT_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert run_app(coderd.build_app(), "coderd", arguments) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, err[:8]) == ("", "coderd: ")


# On a terminal


def on_terminal(*arguments: str, until: bytes, interrupt: bool = False) -> tuple[int, bytes]:
    """Runs coderctl on a terminal of its own until it has printed something; its exit code and output."""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "coderd.cli.coderctl", *arguments]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        seen = b""
        while until not in seen:
            seen += os.read(controller, 65536)
        if interrupt:
            process.send_signal(signal.SIGINT)
        with suppress(OSError):  # EIO: the other end has closed
            while chunk := os.read(controller, 65536):
                seen += chunk
        process.wait(timeout=10)
    os.close(controller)
    return process.returncode, seen


@pytest.mark.slow
def test_watch_shows_the_status_over_and_over_until_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with daemon(monkeypatch, ScriptedHandler(status=((), STATUS))):
        code, seen = on_terminal("status", "--watch", until=b"home relay", interrupt=True)
    assert code == Exit.INTERRUPTED
    assert b"Traceback" not in seen


@pytest.mark.slow
def test_rows_are_shown_live_on_a_terminal_and_make_way_for_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with speedtest_port() as port, daemon(monkeypatch, SpeedtestDaemon(ready(port))):
        code, seen = on_terminal("speedtest", "dev", "-t", "1.1s", until=b"BANDWIDTH")
    assert code == Exit.DONE
    live, wiped, table = seen.partition(b"\x1b[1F\x1b[J")
    assert b"0.00-1.00 sec  " in live
    assert wiped
    assert table.startswith(b"INTERVAL")


@pytest.mark.slow
def test_a_token_is_asked_for_on_a_terminal_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with daemon(monkeypatch, ScriptedHandler(up=((), JOINED))):
        code, seen = on_terminal("up", "https://192.0.2.10:3000", until=b"Token for", interrupt=True)
    assert code == Exit.INTERRUPTED
    assert seen.startswith(b"Token for https://192.0.2.10:3000: ")
