"""What a session notes, on disk."""

from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from coderd.daemon.state import StateStore
from coderd.daemon.state_saver import StateSaver
from coderd.model.errors import UserError


async def test_a_disk_that_refuses_is_logged_and_the_next_change_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, is_tried = trio.lowlevel.current_trio_token(), [trio.Event(), trio.Event()]
    waiting = iter(is_tried)
    with StateStore(tmp_path) as store:
        write = store.save_newest

        def save() -> None:
            attempt = next(waiting)
            try:
                if attempt is is_tried[0]:
                    raise UserError("the disk is full")
                write()
            finally:
                token.run_sync_soon(attempt.set)

        monkeypatch.setattr(store, "save_newest", save)
        saver = StateSaver(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(saver.run)
            with capture_logs() as log:
                saver.note(resume_token="first")
                await is_tried[0].wait()
                saver.note(tai64n_mark="40" + "00" * 11)
                await is_tried[1].wait()
            nursery.cancel_scope.cancel()
        monkeypatch.undo()
    assert [entry["event"] for entry in log] == ["the state cannot be saved"]
    with StateStore(tmp_path) as store:
        assert store.current.resume_token == "first"
        assert store.current.tai64n_mark == "40" + "00" * 11


def test_a_change_that_changes_nothing_saves_nothing(tmp_path: Path) -> None:
    with StateStore(tmp_path) as store:
        before = store.current
        StateSaver(store).note(resume_token=before.resume_token)
        assert store.current is before
