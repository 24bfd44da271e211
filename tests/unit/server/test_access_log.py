"""AccessRecords reach the store in batches, at the end too; what does not fit is counted."""

import os
import threading
from pathlib import Path
from uuid import UUID

import pytest
import trio
import trio.testing

from coderd.coordination.registry import Registry
from coderd.derp.io.server import RelayServer
from coderd.identity.apps import App
from coderd.identity.io.store import Store
from coderd.identity.people import Node, User
from coderd.metrics import Counters
from coderd.model.keys import ServerPrivate
from coderd.model.netmap import NodeKind
from coderd.server import access_log
from coderd.server import directory as directory_module
from coderd.server.access_log import AccessLog
from coderd.server.directory import Directory
from coderd.server.relay.verifier import admit_anybody

ANN = User(UUID(int=101), "ann")
LAPTOP = Node(UUID(int=1), NodeKind.DEVICE, "laptop", ANN, 0.0)
DEV = Node(UUID(int=2), NodeKind.WORKSPACE, "dev", ANN, 0.0)


def directory_of(store: Store, counters: Counters) -> Directory:
    relay = RelayServer(ServerPrivate.generate(os.urandom), admit_anybody, rng=os.urandom, counters=counters)
    return Directory(store, counters, Registry(), relay)


async def test_what_is_noted_is_written_and_what_waits_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "MAX_WAITING", 2)
    store, counters = Store(tmp_path / "identity.db"), Counters()
    log = AccessLog(directory_of(store, counters))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for path in ("relay", "direct", "direct"):
            log.note_tunnel(LAPTOP, DEV, path)
        nursery.cancel_scope.cancel()
    written = store.access_records.page()
    assert [(each.actor, each.target, each.detail) for each in written] == [
        ("ann/laptop", "ann/dev", "direct"),
        ("ann/laptop", "ann/dev", "relay"),
    ]
    assert counters["openings.dropped"] == 1
    store.close()


async def test_what_goes_through_the_server_is_noted_once_an_hour_for_each_person_and_thing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    store, counters = Store(tmp_path / "identity.db"), Counters()
    log = AccessLog(directory_of(store, counters))
    bob, docs, port = User(UUID(int=102), "bob"), App("docs", 8080), App("9000", 9000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        for viewer, app in ((ANN, docs), (ANN, docs), (bob, docs), (ANN, port)):
            log.note_app(viewer, DEV, app)
        log.note_terminal(ANN, DEV)
        log.note_terminal(ANN, DEV)
        await trio.sleep(access_log.AGAIN_AFTER)
        log.note_app(ANN, DEV, docs)
        nursery.cancel_scope.cancel()
    written = [(each.actor, each.action, each.detail) for each in reversed(store.access_records.page())]
    assert written == [
        ("ann", "app.used", "docs"),
        ("bob", "app.used", "docs"),
        ("ann", "app.used", "9000"),
        ("ann", "terminal.used", ""),
        ("ann", "app.used", "docs"),
    ]
    store.close()


async def test_a_batch_that_waits_for_the_store_when_the_server_ends_is_written(tmp_path: Path) -> None:
    store, counters = Store(tmp_path / "identity.db"), Counters()
    directory = directory_of(store, counters)
    log, is_free = AccessLog(directory), trio.Event()

    async def keep_every_thread(task_status: trio.TaskStatus[None]) -> None:
        busy = threading.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(directory_module.MAX_THREADS):
                nursery.start_soon(directory.in_thread, busy.wait)
            await trio.testing.wait_all_tasks_blocked()
            task_status.started()
            await is_free.wait()
            busy.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(keep_every_thread)
        async with trio.open_nursery() as writing:
            writing.start_soon(log.run)
            log.note_tunnel(LAPTOP, DEV, "direct")
            await trio.testing.wait_all_tasks_blocked()
            writing.cancel_scope.cancel()
            is_free.set()
    assert [each.detail for each in store.access_records.page()] == ["direct"]
    assert counters["openings.dropped"] == 0
    store.close()


async def test_who_floods_the_queue_pushes_out_nobodys_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "MAX_WAITING", 4)
    store, counters = Store(tmp_path / "identity.db"), Counters()
    log = AccessLog(directory_of(store, counters))
    eves = Node(UUID(int=9), NodeKind.DEVICE, "laptop", User(UUID(int=102), "eve"), 0.0)
    for _ in range(10):
        log.note_tunnel(eves, DEV, "direct")
    log.note_tunnel(LAPTOP, DEV, "direct")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [each.actor for each in store.access_records.page()] == [
        "ann/laptop",
        "eve/laptop",
        "eve/laptop",
        "eve/laptop",
    ]
    assert counters["openings.dropped"] == 7
    store.close()
