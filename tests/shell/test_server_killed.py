"""A server that is killed while it writes has lost nothing that it had acknowledged; one of an older schema says so."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from coderd.api.messages import PREFIX
from coderd.identity.io.store import Store
from coderd.model.netmap import NodeKind

N_WRITES, N_WRITERS = 1000, 8
KILL_AFTER = 400
"""Acknowledged writes, at which the server is killed."""


def command(directory: Path) -> list[str]:
    where = ["--http-address", "127.0.0.1:0", "--stun-address", "off", "--state-dir", str(directory)]
    return [
        sys.executable,
        "-m",
        "coderd.cli.coderd",
        "server",
        "--access-url",
        "http://192.0.2.10:3000",
        *where,
    ]


def make_database(directory: Path) -> str:
    """A state directory with an owner; the owner's token."""
    directory.mkdir(mode=0o700)
    tokens: list[str] = []
    store = Store(directory / "identity.db")
    store.users.create_first_owner("admin", tokens.append)
    store.close()
    return tokens[0]


@contextmanager
def server(directory: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server process of its own, and its URL."""
    with (directory.with_suffix(".log")).open("w") as log:
        process = subprocess.Popen(
            command(directory), stdout=log, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if (found := re.search(r"server_started.*http=(\S+:\d+)", line)) is not None:
                yield process, f"http://{found[1]}"
                return
        raise AssertionError("the server ended")
    finally:
        process.kill()
        process.communicate(timeout=10)


@pytest.mark.slow
async def test_of_1000_writes_none_is_lost_that_was_acknowledged_before_a_kill(tmp_path: Path) -> None:
    state = tmp_path / "state"
    acknowledged: list[str] = []
    waiting = [f"w{number}" for number in range(N_WRITES)]
    token = make_database(state)
    with server(state) as (process, url):

        async def write(client: httpx.AsyncClient) -> None:
            try:
                while waiting:
                    name = waiting.pop()
                    answer = await client.post(PREFIX + "/workspaces", json={"name": name})
                    assert answer.status_code == 201
                    acknowledged.append(name)
                    if len(acknowledged) == KILL_AFTER:
                        process.send_signal(signal.SIGKILL)
            except httpx.TransportError:
                return

        headers = {"authorization": f"Bearer {token}"}
        async with (
            httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client,
            trio.open_nursery() as nursery,
        ):
            for _ in range(N_WRITERS):
                nursery.start_soon(write, client)
    assert KILL_AFTER <= len(acknowledged) < N_WRITES
    store = Store(state / "identity.db")
    kept = {node.name for node in store.nodes.every(NodeKind.WORKSPACE)}
    noted = {entry.target for entry in store.audit.page(limit=N_WRITES) if entry.action == "workspace.create"}
    store.close()
    assert set(acknowledged) <= kept
    assert {f"admin/{name}" for name in kept} == noted
    with sqlite3.connect(state / "identity.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.slow
def test_a_newer_schema_than_the_programs_is_refused_with_one_sentence(tmp_path: Path) -> None:
    state = tmp_path / "state"
    make_database(state)
    with sqlite3.connect(state / "identity.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    done = subprocess.run(command(state), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    error = done.stderr.strip().splitlines()
    assert error[-2].startswith("coderd: the database")
    assert "was written by a newer coderd (schema 9999)" in error[-2]
    assert "Traceback" not in done.stderr
