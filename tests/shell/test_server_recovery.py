"""A way back in on the server's machine: beside a server that runs, and where none does."""

import os
import stat
from pathlib import Path

import pytest
import trio

from coderd.api.io.client import ApiClient
from coderd.cli import coderd
from coderd.cli.shell import run_app
from coderd.config.lifetimes import LifetimeOptions
from coderd.model.errors import Exit, UserError
from coderd.model.keys import NodePrivate
from coderd.server.recovery import create_admin, reset_user
from tests.shell.server_world import JoinedNode, in_thread, serving

pytestmark = pytest.mark.slow

TERMS = LifetimeOptions()


async def test_a_reset_beside_a_server_ends_sessions_and_links_and_lets_back_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        anns, key = await world.add_user("ann"), NodePrivate.generate(os.urandom)
        laptop = JoinedNode(await world.enrol(key, anns), key)

        async def run() -> None:
            with pytest.raises(UserError):
                await laptop.client(world.url).run()

        nursery.start_soon(run)
        await laptop.until(lambda node: node.is_connected)
        state = world.config.state_dir
        kept = await in_thread(lambda: reset_user(state, TERMS, "ann"))
        assert (kept.n_ended, laptop.is_connected) == (1, True)
        assert (await world.ask("GET", "/api/v1/users/me", anns)).status_code == 401
        assert (await in_thread(ApiClient(world.url, kept.token).me)).name == "ann"
        assert stat.S_IMODE(kept.token_file.stat().st_mode) == 0o600
        assert kept.token_file.read_text("ascii").strip() == kept.token
        done = await in_thread(lambda: reset_user(state, TERMS, "ann", with_nodes=True))
        assert done.n_ended == 2
        await laptop.until(lambda node: not node.is_connected, patience=3)
        verdict = await world.ask("POST", "/derp/verify", json={"NodePublic": key.public().text})
        assert verdict.json() == {"Allow": False}
        actions = [entry.action for entry in (await in_thread(world.admin.audit)).entries]
        assert actions[:2] == ["user.reset", "user.reset"]


async def test_an_owner_is_made_beside_a_server_and_where_none_runs(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        state = world.config.state_dir
        made = await in_thread(lambda: create_admin(state, TERMS, "root"))
        me = await in_thread(ApiClient(world.url, made.token).me)
        assert (me.name, me.role) == ("root", "owner")
        with pytest.raises(UserError, match="already"):
            await in_thread(lambda: create_admin(state, TERMS, "root"))
    again = create_admin(state, TERMS, "spare")
    async with serving(tmp_path) as world:
        assert (await in_thread(ApiClient(world.url, again.token).me)).role == "owner"


def test_where_no_state_is_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        reset_user(tmp_path, TERMS, "ann")
    assert caught.value.code == "no_state"
    assert list(tmp_path.iterdir()) == []


async def test_the_commands_leave_the_token_in_a_file_and_show_it_to_no_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as world:
        where = ["--state-dir", str(world.config.state_dir)]
        kept = world.config.state_dir / "sign-in-root"

        def run(*arguments: str) -> int:
            return run_app(coderd.build_app(), "coderd", ["server", *arguments, *where])

        assert await in_thread(lambda: run("create-admin", "--name", "spare", "--show")) == Exit.USAGE
        assert await in_thread(lambda: run("create-admin", "--name", "root")) == Exit.DONE
        first = kept.read_text("ascii").strip()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert await in_thread(lambda: run("reset-user", "root")) == Exit.DONE
        assert await in_thread(lambda: run("reset-user", "root", "--show")) == Exit.USAGE
        assert await in_thread(lambda: run("reset-user", "nobody")) == Exit.FAILED
        token = kept.read_text("ascii").strip()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        out, err = capsys.readouterr()
        assert first not in out + err
        assert token not in out + err
        assert "Revoked 1 tokens of root" in err
        assert (await in_thread(ApiClient(world.url, token).me)).name == "root"
