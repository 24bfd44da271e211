"""coderctl against a real server: workspaces and counters."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from coderd.cli import coderctl
from coderd.cli.shell import run_app
from coderd.model.errors import Exit
from tests.shell.server_world import World, serving


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CODER_URL", raising=False)
    with capture_logs():
        yield


def coderctl_at(world: World) -> Callable[..., int]:
    """Coderctl with this server and its first admin's token."""
    where = ["--url", world.url, "--token-file", str(world.config.state_dir / "admin-token")]
    return lambda *arguments: run_app(coderctl.build_app(), "coderctl", [*arguments, *where])


@pytest.mark.slow
async def test_workspaces_are_created_listed_and_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as world:
        run = coderctl_at(world)

        def story() -> None:
            capsys.readouterr()
            assert run("workspaces", "list") == Exit.DONE
            assert "No workspaces yet" in capsys.readouterr().err
            assert run("workspaces", "create", "dev") == Exit.DONE
            line = capsys.readouterr().out.splitlines()[-1]
            assert line.startswith("echo cdrw_")
            assert line.endswith(f" | sudo coderd run --access-url {world.url} --token-file -")
            assert run("workspaces", "create", "two", "--json") == Exit.DONE
            made = json.loads(capsys.readouterr().out)
            assert (made["name"], made["token"][:5]) == ("two", "cdrw_")
            assert run("workspaces", "list") == Exit.DONE
            rows = [line.split() for line in capsys.readouterr().out.splitlines() if "offline" in line]
            assert [(row[0], row[2]) for row in rows] == [("admin/dev", "offline"), ("admin/two", "offline")]
            assert run("workspaces", "delete", "dev", "--yes") == Exit.DONE
            assert run("workspaces", "delete", "dev", "--yes") == Exit.NO_SUCH_WORKSPACE
            assert run("workspaces", "create", "not a name") == Exit.FAILED

        await trio.to_thread.run_sync(story)


async def test_a_wrong_token_ends_4_and_a_server_that_is_not_there_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("cdrs_wrong")

    def ask(url: str) -> int:
        arguments = ["workspaces", "list", "--url", url, "--token-file", str(token)]
        return run_app(coderctl.build_app(), "coderctl", arguments)

    async with serving(tmp_path) as world:
        assert await trio.to_thread.run_sync(ask, world.url) == Exit.REFUSED
        url = world.url
    assert await trio.to_thread.run_sync(ask, url) == Exit.UNREACHABLE
    err = capsys.readouterr().err
    assert err.count("coderctl: ") == 2
    assert "cdrs_wrong" not in err


async def test_an_administrator_sees_the_server_s_counters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as world:
        run = coderctl_at(world)
        assert await trio.to_thread.run_sync(run, "debug", "counters") == Exit.DONE
    assert "\nn_connections 0\n" in capsys.readouterr().out
