"""``coderctl terminal`` as a process, against a node API with real shells behind it."""

import os
import pty
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from coderd.control.messages import DialTarget
from coderd.metrics import Counters
from coderd.model.account import Account
from coderd.model.netmap import Peer
from coderd.terminal.io.service import TerminalService
from tests.shell.control_world import ScriptedHandler, running
from tests.shell.node_api_world import serve_anybody
from tests.shell.test_cli_commands import daemon, spawn

pytestmark = pytest.mark.slow
CUT = b"cut here"


class CutStream(trio.abc.Stream):
    """A stream that breaks once it has carried ``CUT``."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)
        if CUT in bytes(data):
            await self._stream.aclose()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def workspace(home: Path, *, is_on: bool = True) -> Iterator[ScriptedHandler]:
    """A workspace whose first connection breaks after ``CUT``; the second one leaves the file ``back`` in its home."""
    me = pwd.getpwuid(os.getuid())
    service = TerminalService(Account(me.pw_name, me.pw_uid, me.pw_gid, str(home), "/bin/sh"), Counters())
    n_served = 0

    async def terminal(stream: trio.SocketStream, rest: bytes, caller: Peer, grace: float) -> None:
        nonlocal n_served
        n_served += 1
        if n_served > 1:
            (home / "back").touch()
        await service.serve(CutStream(stream) if n_served == 1 else stream, rest, caller.name)

    async def serve(task_status: trio.TaskStatus[int]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            api = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(partial(serve_anybody, api, terminal=terminal if is_on else None))
            task_status.started(api[0].socket.getsockname()[1])

    with running(serve) as port:
        assert isinstance(port, int)
        yield ScriptedHandler(nc=((), DialTarget(name="ann/dev", address="127.0.0.1", api_port=port)))


def run(monkeypatch: pytest.MonkeyPatch, handler: ScriptedHandler, typed: bytes) -> tuple[int, bytes, bytes]:
    with daemon(monkeypatch, handler), spawn("terminal", "dev", stdin=subprocess.PIPE) as process:
        out, err = process.communicate(typed, timeout=20)
    return process.returncode, out, err


def test_a_script_runs_in_the_workspace_and_its_exit_code_is_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with workspace(tmp_path) as handler:
        code, out, err = run(monkeypatch, handler, b"stty size; pwd; exit 3\n")
    assert (code, err) == (3, b"")
    assert b"24 80\r\n" + str(tmp_path).encode() in out


def test_after_the_path_broke_the_output_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = b"echo cut he''re; until [ -e back ]; do sleep 0.01; done; echo af''ter; exit 4\n"
    with workspace(tmp_path) as handler:
        code, out, err = run(monkeypatch, handler, script)
    assert code == 4
    assert b"the connection to dev broke; reconnecting" in err
    assert (out.count(CUT + b"\r\n"), out.count(b"after\r\n")) == (1, 1)


def on_terminal(typed: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """``coderctl terminal dev`` on a terminal: each text is typed once the one before it is to be seen."""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "coderd.cli.coderctl", "terminal", "dev"]
    seen = b""
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        for shown, text in typed:
            while shown not in seen:
                seen += os.read(controller, 65536)
            os.write(controller, text)
        with suppress(OSError):  # EIO: the other end has closed
            while chunk := os.read(controller, 65536):
                seen += chunk
        process.wait(timeout=10)
    os.close(controller)
    return process.returncode, seen


def test_a_shell_that_was_left_running_is_come_back_to_by_its_id_from_another_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with workspace(tmp_path) as handler, daemon(monkeypatch, handler):
        prompt = b"PS1='ready> '\r"
        code, seen = on_terminal(
            [(b" ", prompt), (b"\nready> ", b"echo le''ft\r"), (b"\nleft\r\nready> ", b"~"), (b"> ~", b"d")]
        )
        assert code == 0
        found = re.search(rb"coderctl terminal dev --resume ([0-9a-f]{32})", seen)
        assert found is not None
        resume = ("terminal", "dev", "--resume", found[1].decode())
        with spawn(*resume, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(b"echo ba''ck; exit 5\n", timeout=20)
        assert (process.returncode, err) == (5, b"")
        assert b"\nleft\r\n" in out
        assert b"\nback\r\n" in out
        with spawn(*resume, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(b"", timeout=20)
        assert (process.returncode, out, err) == (1, b"", b"coderctl: that terminal has ended\n")


def test_an_id_that_is_none_is_refused_before_anything_is_opened() -> None:
    with spawn("terminal", "dev", "--resume", "xyz", stdin=subprocess.PIPE) as process:
        _, err = process.communicate(b"", timeout=20)
    assert process.returncode == 2
    assert b"is not a shell's id" in err


def test_a_workspace_that_offers_no_terminal_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with workspace(tmp_path, is_on=False) as handler:
        assert run(monkeypatch, handler, b"exit\n") == (
            1,
            b"",
            b"coderctl: the workspace offers no terminal\n",
        )
