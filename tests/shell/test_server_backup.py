"""A backup is taken while the server runs and works; restored, it is the same server to everybody."""

import hashlib
import io
import os
import sqlite3
import stat
import tarfile
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from coderd.cli.coderd import build_app
from coderd.cli.shell import run_app
from coderd.model.errors import Exit, UserError
from coderd.server.backup import make_backup, restore_backup
from tests.shell.server_world import World, in_thread, serving


def unpacked(backup: Path) -> dict[str, bytes]:
    with tarfile.open(backup) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]


def pack(backup: Path, files: dict[str, bytes]) -> None:
    """With a manifest that fits, whatever the files are."""
    manifest = msgspec.json.decode(files["manifest.json"])
    manifest["files"] = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
        if name != "manifest.json"
    }
    with tarfile.open(backup, "w") as tar:
        for name, data in {**files, "manifest.json": msgspec.json.encode(manifest)}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


async def make_in_thread(world: World, target: Path) -> None:
    await in_thread(lambda: make_backup(world.config.state_dir, target))


async def test_a_restored_server_knows_the_same_people_machines_and_keys(tmp_path: Path) -> None:
    backup = tmp_path / "backup.tar"
    async with serving(tmp_path / "old") as world:
        ann = await world.add_user("ann")
        dev = await world.add_workspace("dev", ann)
        before = (await world.ask("GET", "/api/v1/workspaces", ann)).json()
        await make_in_thread(world, backup)
        keys = (world.config.state_dir / "keys.json").read_bytes()
    restore_backup(backup, tmp_path / "new" / "state")
    async with serving(tmp_path / "new") as world:
        assert (await world.ask("GET", "/api/v1/workspaces", ann)).json() == before
        assert (await world.ask("GET", "/api/v1/reflection", dev)).status_code == 200
        assert (world.config.state_dir / "keys.json").read_bytes() == keys
    assert stat.S_IMODE((tmp_path / "new" / "state" / "identity.db").stat().st_mode) == 0o600


async def test_a_backup_amid_writes_is_one_moment_of_the_database(tmp_path: Path) -> None:
    """Each workspace is written with its token and its audit record: no backup has one without the others."""
    n_made = 0
    async with serving(tmp_path) as world:

        async def write() -> None:
            nonlocal n_made
            while True:
                await world.add_workspace(f"dev-{n_made}")
                n_made += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            for number in range(5):
                await make_in_thread(world, tmp_path / f"{number}.tar")
            nursery.cancel_scope.cancel()
    counts = [_count(tmp_path, number) for number in range(5)]
    for n_workspaces, n_tokens, n_records in counts:
        assert n_workspaces == n_tokens == n_records
    assert counts == sorted(counts)
    assert n_made > 0


def _count(directory: Path, number: int) -> tuple[int, ...]:
    database = directory / f"{number}.db"
    database.write_bytes(unpacked(directory / f"{number}.tar")["identity.db"])
    questions = (
        "SELECT count(*) FROM nodes WHERE kind = 'workspace'",
        "SELECT count(*) FROM tokens WHERE node_id IS NOT NULL",
        "SELECT count(*) FROM audit WHERE action = 'workspace.create'",
    )
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return tuple(connection.execute(question).fetchone()[0] for question in questions)


async def test_a_backup_is_readable_by_its_maker_alone_and_replaces_the_last(tmp_path: Path) -> None:
    backup = tmp_path / "backup.tar"
    backup.write_text("the last one")
    backup.chmod(0o644)
    old_mask = os.umask(0)
    try:
        async with serving(tmp_path) as world:
            await make_in_thread(world, backup)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert {"identity.db", "keys.json", "admin-token", "manifest.json"} <= unpacked(backup).keys()
    assert not any(name.startswith(".") for name in os.listdir(tmp_path))


async def test_nothing_is_restored_over_a_running_server(tmp_path: Path) -> None:
    backup = tmp_path / "backup.tar"
    async with serving(tmp_path) as world:
        await make_in_thread(world, backup)
        with pytest.raises(UserError, match="another server uses"):
            await in_thread(partial(restore_backup, backup, world.config.state_dir, force=True))


async def test_a_state_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    backup, state = tmp_path / "backup.tar", tmp_path / "state"
    async with serving(tmp_path) as world:
        await make_in_thread(world, backup)
        late = await world.add_user("late")
    with pytest.raises(UserError, match="already") as refused:
        restore_backup(backup, state)
    assert refused.value.exit_code == Exit.USAGE
    restore_backup(backup, state, force=True)
    async with serving(tmp_path) as world:
        assert (await world.ask("GET", "/api/v1/users/me", late)).status_code == 401


async def _backup_of_new_server(directory: Path) -> Path:
    backup = directory / "backup.tar"
    async with serving(directory / "old") as world:
        await make_in_thread(world, backup)
    return backup


@pytest.mark.parametrize("name", ["../keys.json", "/etc/passwd", "lock", ".ssh", "a/b"])
async def test_a_backup_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    backup = await _backup_of_new_server(tmp_path)
    pack(backup, {**unpacked(backup), name: b"evil"})
    with pytest.raises(UserError, match="no server has"):
        restore_backup(backup, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]


async def test_a_newer_schema_is_refused_with_a_sentence(tmp_path: Path) -> None:
    backup = await _backup_of_new_server(tmp_path)
    files, database = unpacked(backup), tmp_path / "newer.db"
    database.write_bytes(files["identity.db"])
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    pack(backup, {**files, "identity.db": database.read_bytes()})
    with pytest.raises(UserError, match="made by a newer coderd"):
        restore_backup(backup, tmp_path / "new")


async def test_a_damaged_backup_is_refused_and_nothing_replaced(tmp_path: Path) -> None:
    backup = await _backup_of_new_server(tmp_path)
    whole = backup.read_bytes()
    state = tmp_path / "old" / "state"
    before = (state / "keys.json").read_bytes()
    for damaged in (
        b"",
        b"no tar at all",
        whole[: len(whole) // 2],
        whole.replace(before, bytes(len(before))),
    ):
        backup.write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be used"):
            restore_backup(backup, state, force=True)
        assert (state / "keys.json").read_bytes() == before


async def test_the_commands_take_the_state_directory_before_or_behind_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as world:
        state = str(world.config.state_dir)
        first, second = tmp_path / "1.tar", tmp_path / "2.tar"
        for arguments in (
            ["server", "backup", str(first), "--state-dir", state],
            ["server", "--state-dir", state, "backup", str(second)],
        ):
            assert await in_thread(partial(run_app, build_app(), "coderd", arguments)) == Exit.DONE
    restored = ["server", "restore", str(second), "--state-dir", str(tmp_path / "restored")]
    assert run_app(build_app(), "coderd", restored) == Exit.DONE
    assert unpacked(first)["keys.json"] == (tmp_path / "restored" / "keys.json").read_bytes()
    assert "keep it where only you can read it" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away; CI runs as root")
async def test_what_root_restores_belongs_to_the_servers_user(tmp_path: Path) -> None:
    backup, state = await _backup_of_new_server(tmp_path), tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 4711, 4712)
    restore_backup(backup, state)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in state.iterdir()} == {(4711, 4712)}
