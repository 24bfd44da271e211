"""The server's state directory: private, locked, and never silently replaced."""

import errno
import os
import stat
from pathlib import Path

import pytest

from coderd.model.errors import UserError
from coderd.server.state import KEYS_FILE, StateDirectory


def test_keys_are_made_once_and_kept(tmp_path: Path) -> None:
    with StateDirectory(tmp_path / "s") as state:
        keys = state.relay_key, state.coordination_key
        assert keys[0].raw != keys[1].raw
    with StateDirectory(tmp_path / "s") as again:
        assert (again.relay_key, again.coordination_key) == keys
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    for file in (tmp_path / "s").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_open_directory_is_closed_to_others_again(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    with StateDirectory(tmp_path / "s"):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


def test_a_directory_that_others_write_to_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(0o1777)
    with pytest.raises(UserError, match="can be written by others"):
        StateDirectory(tmp_path / "s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o1777
    assert list((tmp_path / "s").iterdir()) == []


def test_a_disk_that_takes_nothing_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(UserError, match=r"keys\.json cannot be written: No space left"):
        StateDirectory(tmp_path / "s")


def test_two_servers_do_not_share_one(tmp_path: Path) -> None:
    with StateDirectory(tmp_path / "s"), pytest.raises(UserError, match="another server"):
        StateDirectory(tmp_path / "s")
    StateDirectory(tmp_path / "s").close()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"nonsense", b'{"relay_key":"privkey:00","coordination_key":""}']
)
def test_damaged_keys_mean_refusing_to_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEYS_FILE).write_bytes(content)
    with pytest.raises(UserError, match="damaged") as caught:
        StateDirectory(tmp_path)
    assert "privkey" not in caught.value.message
    assert (tmp_path / KEYS_FILE).read_bytes() == content


def test_what_is_no_regular_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"{}")
    (tmp_path / KEYS_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError):
        StateDirectory(tmp_path)


def test_a_place_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be used"):
        StateDirectory(tmp_path / "file" / "s")


def test_the_admin_token_is_its_owners_alone_and_replaced_as_a_whole(tmp_path: Path) -> None:
    with StateDirectory(tmp_path) as state:
        state.write_admin_token("cdrs_a")
        state.write_admin_token("cdrs_b")
        assert state.admin_token_file.read_text("ascii") == "cdrs_b\n"
        assert stat.S_IMODE(state.admin_token_file.stat().st_mode) == 0o600
