"""coderctl against a real server: users, sharing, path rules, devices, tokens, and the log of who changed what."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from coderd.api.io.machine import enrol_device
from coderd.cli import coderctl
from coderd.cli.shell import run_app
from coderd.model.errors import Exit
from coderd.model.keys import NodePrivate
from coderd.model.quotas import Quotas
from tests.shell.server_world import World, serving

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CODER_URL", raising=False)
    with capture_logs():
        yield


class Terminal:
    """Somebody at a shell, signed in by a token file."""

    def __init__(self, world: World, token_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._where = ["--url", world.url, "--token-file", str(token_file)]
        self._capsys = capsys
        capsys.readouterr()

    def run(self, *arguments: str) -> str:
        """Stdout of a command that succeeds."""
        assert run_app(coderctl.build_app(), "coderctl", [*arguments, *self._where]) == Exit.DONE
        return self._capsys.readouterr().out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def fail(self, *arguments: str) -> tuple[int, str]:
        """Exit code and stderr of one that does not."""
        code = run_app(coderctl.build_app(), "coderctl", [*arguments, *self._where])
        return code, self._capsys.readouterr().err


async def tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], story: Callable[[World, Terminal], None]
) -> None:
    async with serving(tmp_path) as world:
        owner = Terminal(world, world.config.state_dir / "admin-token", capsys)
        await trio.to_thread.run_sync(story, world, owner)


async def test_users_come_change_and_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def story(world: World, owner: Terminal) -> None:
        (tmp_path / "eve").write_text(owner.run("users", "create", "eve", "--role", "admin"))
        eve = Terminal(world, tmp_path / "eve", capsys)
        assert eve.run("users", "create", "ann").startswith("cdrs_")
        assert eve.fail("users", "set-role", "ann", "owner")[0] == Exit.REFUSED
        assert "name:  anna" in eve.run("users", "rename", "ann", "anna")
        assert [row.split()[:2] for row in owner.run("users", "list").splitlines()] == [
            ["admin", "owner"],
            ["anna", "member"],
            ["eve", "admin"],
        ]
        shown = owner.json("users", "show", "anna")
        assert isinstance(shown, dict)
        assert shown["role"] == "member"
        assert owner.fail("users", "delete", "anna")[0] == Exit.USAGE
        assert owner.run("users", "delete", "anna", "--yes") == "Deleted anna\n"
        code, error = owner.fail("users", "set-role", "admin", "member")
        assert code == Exit.FAILED
        assert "the last owner" in error
        assert owner.fail("users", "set-role", "eve", "queen")[0] == Exit.USAGE

    await tell(tmp_path, capsys, story)


async def test_workspaces_are_shared_renamed_and_ruled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def story(world: World, owner: Terminal) -> None:
        (tmp_path / "bob").write_text(owner.run("users", "create", "bob"))
        bob = Terminal(world, tmp_path / "bob", capsys)
        owner.run("workspaces", "create", "dev")
        assert bob.fail("workspaces", "show", "admin/dev")[0] == Exit.NO_SUCH_WORKSPACE
        assert "admin/dev is offered to bob: the apps' ports (none), no terminal" in owner.run(
            "workspaces", "share", "dev", "bob"
        )
        assert bob.json("workspaces", "list") == []
        assert bob.run("shares", "list").startswith("admin/dev")
        assert "admin/dev is shared with you" in bob.run("shares", "accept", "admin/dev")
        changed = owner.run("share", "dev", "--with", "bob", "--ports", "22,8000-8999", "--expires", "7d")
        assert "admin/dev is shared with bob: ports 22,8000-8999, no terminal, until" in changed
        code, error = bob.fail("workspaces", "show", "dev")
        assert (code, "with its owner: admin/dev" in error) == (Exit.NO_SUCH_WORKSPACE, True)
        assert "shared with bob:" in owner.run("workspaces", "show", "dev")
        assert owner.run("workspaces", "connections", "dev") == ""
        assert owner.fail("workspaces", "cut", "dev", "admin/laptop")[0] == Exit.USAGE
        assert bob.run("workspaces", "list").startswith("admin/dev")
        assert "shared" not in bob.run("workspaces", "show", "admin/dev")
        for forbidden in (("share", "admin/dev", "bob"), ("set", "admin/dev", "--path", "deny")):
            assert bob.fail("workspaces", *forbidden)[0] == Exit.NO_SUCH_WORKSPACE
        changed = owner.json("workspaces", "set", "dev", "--path", "relay-only")
        assert isinstance(changed, dict)
        assert changed["path"] == "relay-only"
        assert "offline, relay-only" in owner.run("workspaces", "list")
        assert owner.fail("workspaces", "set", "dev", "--path", "none")[0] == Exit.USAGE
        assert "admin/lab" in owner.run("workspaces", "rename", "dev", "lab")
        bob.run("shares", "leave", "admin/lab")
        assert owner.fail("workspaces", "cut", "lab", "bob")[0] == Exit.NO_SUCH_WORKSPACE
        owner.run("share", "lab", "--with", "bob")
        bob.run("shares", "decline", "admin/lab")
        assert "offered to bob" in owner.run("workspaces", "show", "lab")
        bob.run("shares", "accept", "admin/lab")
        owner.run("workspaces", "cut", "lab", "bob/laptop")
        assert bob.json("workspaces", "list") == []
        assert owner.fail("workspaces", "delete", "lab")[0] == Exit.USAGE
        owner.run("workspaces", "delete", "lab", "--yes")

    await tell(tmp_path, capsys, story)


async def test_a_person_sees_how_much_they_have_and_may_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def story(world: World, owner: Terminal) -> None:
        owner.run("workspaces", "create", "dev")
        shown = owner.run("users", "show")
        assert re.search(r"workspaces: +1 of 1\n", shown)
        assert re.search(r"devices: +0 of 100\n", shown)
        code, error = owner.fail("workspaces", "create", "lab")
        assert code == Exit.FAILED
        assert "admin has 1 workspaces, the most" in error
        assert "--max-workspaces" in error
        usage = owner.json("users", "show", "admin")["usage"]
        assert usage["workspaces"] == {"used": 1, "most": 1}
        assert usage.keys() == {"workspaces", "devices", "tokens", "apps", "shares"}

    async with serving(tmp_path, quotas=Quotas(workspaces=1)) as world:
        owner = Terminal(world, world.config.state_dir / "admin-token", capsys)
        await trio.to_thread.run_sync(story, world, owner)


async def test_tokens_are_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def story(world: World, owner: Terminal) -> None:
        (tmp_path / "ci").write_text(
            owner.run("tokens", "create", "ci", "--scope", "read", "--expires", "24h")
        )
        reader = Terminal(world, tmp_path / "ci", capsys)
        assert reader.json("workspaces", "list") == []
        code, error = reader.fail("workspaces", "create", "dev")
        assert code == Exit.REFUSED
        assert "permits only reading" in error
        line = owner.run("tokens", "create", "image", "--join", "--reusable")
        assert line.startswith("echo cdrj_")
        assert owner.fail("tokens", "create", "x", "--reusable")[0] == Exit.USAGE
        rows = {row.split()[2]: row.split() for row in owner.run("tokens", "list").splitlines()}
        assert rows["ci"][1:4] == ["session", "ci", "read"]
        assert rows["image"][1] == "join"
        assert "cdr" not in owner.run("tokens", "list")
        owner.run("tokens", "revoke", rows["ci"][0], "--yes")
        assert reader.fail("workspaces", "list")[0] == Exit.REFUSED

    await tell(tmp_path, capsys, story)


async def test_devices_are_shown_renamed_and_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def story(world: World, owner: Terminal) -> None:
        key = NodePrivate.generate(os.urandom).public()
        trio.from_thread.run(lambda: enrol_device(world.url, world.admin_token, name="laptop", node_key=key))
        assert owner.run("devices", "list").split()[0::2] == ["admin/laptop", "offline"]
        assert "admin/tower" in owner.run("devices", "rename", "laptop", "tower")
        assert "state:     offline" in owner.run("devices", "show", "tower")
        owner.run("devices", "delete", "tower", "--yes")
        assert owner.json("devices", "list", "--all") == []
        entries = owner.json("audit")
        assert isinstance(entries, dict)
        assert [entry["action"] for entry in entries["entries"]] == [
            "device.delete",
            "device.rename",
            "device.enrol",
            "user.create",
        ]
        assert "admin/laptop" in owner.run("audit", "--limit", "2")

    await tell(tmp_path, capsys, story)


async def test_an_admin_ends_sessions_and_lets_somebody_in_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def story(world: World, owner: Terminal) -> None:
        owner.run("users", "create", "ann")
        (first,) = owner.json("users", "sessions", "ann")
        assert first["is_sign_in"]
        assert "sign-in" in owner.run("users", "sessions", "ann")
        code, err = owner.fail("users", "revoke-session", "ann", first["id"])
        assert code == Exit.USAGE
        assert first["id"] in err
        assert first["id"] in owner.run("users", "revoke-session", "ann", first["id"], "--yes")
        assert owner.json("users", "sessions", "ann") == []
        assert owner.run("users", "sign-in", "ann").startswith("cdrs_")
        made = owner.json("tokens", "create", "ci")
        join = owner.json("tokens", "create", "image", "--join", "--expires", "1h")
        (mine,) = [each for each in owner.json("tokens", "list") if each["is_sign_in"]]
        assert made["info"]["made_with"] == join["info"]["made_with"] == mine["id"]
        code, err = owner.fail("tokens", "revoke", mine["id"], "--with-nodes")
        assert code == Exit.USAGE
        assert err.count("created with") == 3

    await tell(tmp_path, capsys, story)
