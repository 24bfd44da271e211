"""node.json: locked, atomic, secret, and never silently replaced."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coderd.daemon.state import NodeState, StateChanges, StateStore
from coderd.model.errors import UserError
from coderd.wireguard.tai64n import encode_tai64n


def test_a_first_start_makes_a_key_that_later_starts_keep(tmp_path: Path) -> None:
    with StateStore(tmp_path / "state") as store:
        first = store.current.node_key
    with StateStore(tmp_path / "state") as store:
        assert store.current.node_key == first


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    with StateStore(tmp_path / "state"):
        directory = tmp_path / "state"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "node.json").stat().st_mode) == 0o600


def test_a_second_daemon_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with StateStore(tmp_path), pytest.raises(UserError, match="another coderd daemon uses") as caught:
        StateStore(tmp_path)
    assert "--state-dir" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"node_key": "privkey:00"}', b"\xff" * 100])
def test_a_damaged_file_refuses_to_start_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "node.json").write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        StateStore(tmp_path)
    assert (tmp_path / "node.json").read_bytes() == content


def test_a_refused_start_gives_the_lock_back(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_bytes(b"{")
    with pytest.raises(UserError):
        StateStore(tmp_path)
    (tmp_path / "node.json").unlink()
    StateStore(tmp_path).close()


def test_changes_survive_and_secrets_stay_out_of_the_repr(tmp_path: Path) -> None:
    with StateStore(tmp_path) as store:
        store.update(url="http://192.0.2.10:3000", device_token="cdrd_secret")
        assert "cdrd_secret" not in repr(store.current)
        assert store.current.node_key not in repr(store.current)
    with StateStore(tmp_path) as store:
        assert store.current.device_token == "cdrd_secret"


def test_an_unchanged_update_writes_nothing(tmp_path: Path) -> None:
    with StateStore(tmp_path) as store:
        before = os.stat(tmp_path / "node.json").st_ino
        store.update(url=store.current.url)
        assert os.stat(tmp_path / "node.json").st_ino == before


def test_a_symlink_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"{}")
    (tmp_path / "node.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cannot be read"):
        StateStore(tmp_path)


def test_a_state_shows_its_key_only_through_the_redacting_type() -> None:
    state = NodeState(node_key="privkey:" + "11" * 32)
    assert "11" * 8 not in repr(state.private_key())


def test_the_mark_of_handshakes_comes_back(tmp_path: Path) -> None:
    mark = encode_tai64n(1_700_000_000, 0)
    with StateStore(tmp_path) as store:
        assert store.current.timestamp_floor() is None
        store.update(tai64n_mark=mark.hex())
    with StateStore(tmp_path) as store:
        assert store.current.timestamp_floor() == mark


@pytest.mark.parametrize("mark", ["00", "00" * 12, "ff" * 12, "zz" * 12])
def test_a_mark_that_no_clock_has_said_is_damage(tmp_path: Path, mark: str) -> None:
    with StateStore(tmp_path) as store:
        store.update(tai64n_mark=mark)
    with pytest.raises(UserError, match="is damaged"):
        StateStore(tmp_path)


def test_what_is_noted_is_written_with_the_next_save_or_at_the_end(tmp_path: Path) -> None:
    with StateStore(tmp_path) as store:
        before = (tmp_path / "node.json").read_bytes()
        assert store.note(resume_token="r1")
        assert store.current.resume_token == "r1"
        assert (tmp_path / "node.json").read_bytes() == before
        store.update(url="http://192.0.2.10:3000")
        assert b"r1" in (tmp_path / "node.json").read_bytes()
        assert not store.note(resume_token="r1")
        store.note(resume_token="r2")
    with StateStore(tmp_path) as store:
        assert store.current.resume_token == "r2"


def test_a_full_disk_keeps_what_was_noted_for_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StateStore(tmp_path) as store:
        store.note(resume_token="r1")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _no_space)
            with pytest.raises(UserError, match="No space"):
                store.save_newest()
        store.save_newest()
        assert b"r1" in (tmp_path / "node.json").read_bytes()


def _no_space(fd: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# Whose directory it is


def test_what_others_may_write_to_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (directory := tmp_path / "open").mkdir()
    directory.chmod(0o777)
    with pytest.raises(UserError, match="can be written by others"):
        StateStore(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o777
    assert list(directory.iterdir()) == []


def test_a_directory_that_others_can_replace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UserError, match="can put another in its place"):
        StateStore(tmp_path / "open" / "state")
    (tmp_path / "open").chmod(0o1777)  # as /tmp: nobody renames what is another's
    StateStore(tmp_path / "open" / "state").close()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes things another user's, so it needs root")
def test_what_is_somebody_elses_is_refused(tmp_path: Path) -> None:
    StateStore(tmp_path / "one").close()
    os.chown(tmp_path / "one" / "node.json", 65534, 65534)
    with pytest.raises(UserError, match="belongs to another user"):
        StateStore(tmp_path / "one")
    os.chown(tmp_path / "one", 65534, 65534)
    with pytest.raises(UserError, match="can be written by others"):
        StateStore(tmp_path / "one")


@pytest.fixture
def bare_umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o077)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_key_is_its_owners_alone_whatever_the_umask(
    tmp_path: Path, bare_umask: Callable[[int], int], umask: int
) -> None:
    bare_umask(umask)
    with StateStore(tmp_path / "on" / "the" / "way" / "state"):
        pass
    modes = {path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    state = Path("on/the/way/state")
    files = {state / name: 0o600 for name in ("lock", "node.json")}
    assert modes == {**dict.fromkeys(list(state.parents)[:-1], 0o755), state: 0o700, **files}


def test_a_file_that_somebody_has_opened_before_never_holds_the_key(tmp_path: Path) -> None:
    """As once: ``node.tmp`` of another, with whoever holds it open reading along."""
    with StateStore(tmp_path) as store:
        names = [name for base in ("node", "node.json") for name in (f"{base}.tmp", f"{base}.tmp.tmp")]
        held = [(tmp_path / name).open("w+") for name in names]
        store.update(url="http://192.0.2.10:3000")
        for file in held:
            with file:
                assert file.read() == ""


def test_every_field_but_the_key_may_be_changed() -> None:
    assert StateChanges.__annotations__.keys() == {*NodeState.__struct_fields__} - {"node_key"}
