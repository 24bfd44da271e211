"""A token that came by the environment is in nobody's environment any more."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coderd.config.node import TOKEN_ENVIRONMENT
from tests.shell.tun_node import with_own_tun

ROOT = Path(__file__).parents[2]
SECRET = "cdrw_canary_of_the_environment"

TAKES = """
import os, pwd, sys, trio
from coderd.process.handed_on import take_from_environment
print(take_from_environment("CODER_AGENT_TOKEN"), sys.argv[1], os.getpid(), flush=True)
from coderd.model.account import Account
from coderd.terminal.frames import Size
from coderd.terminal.io.starting import start_shell

async def main():
    me = pwd.getpwuid(os.getuid())
    shell = await start_shell(Account(me.pw_name, me.pw_uid, me.pw_gid, "/", "/bin/sh"), Size(24, 80))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shell.run)
        await shell.write(b"env; tr '\\\\0' '\\n' < /proc/self/environ; tr '\\\\0' '\\n' < /proc/$PPID/environ; ls -l /proc/$PPID/fd; exit\\n")
        with trio.fail_after(20):
            while shell.exit_code is None:
                await shell.changed.wait()
        nursery.cancel_scope.cancel()
    print(shell.scrollback.read(0, 65536).decode())

trio.run(main)
"""


@contextmanager
def started(argv: list[str], **environment: str) -> Iterator["subprocess.Popen[str]"]:
    pipe = subprocess.PIPE
    given = {**os.environ, "CODER_AGENT_TOKEN": SECRET, **environment}
    process = subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=given, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_neither_the_process_nor_a_shell_of_its_has_a_token_of_the_environment() -> None:
    with started([sys.executable, "-c", TAKES, "its argument"]) as process:
        said, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    first, rest = said.split("\n", 1)
    assert first == f"{SECRET} its argument {process.pid}"
    assert "HOME=" in rest
    assert SECRET not in rest
    assert "memfd" not in rest.partition("total ")[2]


@pytest.mark.slow
@pytest.mark.netns
def test_the_daemon_has_no_token_in_its_environment(tmp_path: Path) -> None:
    arguments = f"run --interface own0 --access-url https://192.0.2.10:3000 --state-dir {tmp_path}/own --socket {tmp_path}/s"
    argv = with_own_tun([sys.executable, "-m", "coderd.cli.coderd", *arguments.split()], mode="600")
    with started(argv) as process:
        assert process.stderr is not None
        assert any("ready" in line for line in iter(process.stderr.readline, ""))
        assert Path(f"/proc/{process.pid}/comm").read_text().startswith("python")
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().decode()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        files = [os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert "PATH=" in environment
    assert SECRET not in environment + arguments
    assert not [name for name in files if "memfd" in name]


@pytest.mark.parametrize("handed", ["0", "-1", "99", "many", "9" * 30])
def test_what_somebody_else_handed_on_is_refused(handed: str) -> None:
    argv = [sys.executable, "-m", "coderd.cli.coderd", "run"]
    with started(argv, CODER_AGENT_TOKEN_MEMFD=handed) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "set by another program" in errors


@pytest.mark.slow
def test_no_other_secret_is_read_from_the_environment() -> None:
    """One that is would have to be taken out of it as well."""
    texts = {
        node.value
        for path in (ROOT / "coderd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    name = re.compile(r"CODERD?_[A-Z_]*(TOKEN|SECRET|PASSWORD|KEY|CREDENTIALS?)")
    assert {text for text in texts if name.fullmatch(text)} == {TOKEN_ENVIRONMENT}
