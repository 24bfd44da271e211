"""A machine with a join key becomes a workspace once, and is the same one after a restart."""

import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from coderd.api.messages import WorkspaceCreated
from coderd.config.node import NodeConfig
from coderd.daemon import joining
from coderd.daemon.joining import exchange
from coderd.daemon.node import Node
from coderd.daemon.state import StateStore
from coderd.model.errors import Exit, UserError
from tests.shell.server_world import World, in_thread, serving


def node(world: World, store: StateStore, key: str) -> Node:
    config = NodeConfig(access_url=world.url, token=key)
    session: Any = None
    return Node(config, store, "coder0", lambda identity: session)


async def test_a_join_key_is_exchanged_once_and_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        join = (await in_thread(lambda: world.admin.create_token("join", "once"))).token
        with StateStore(tmp_path / "node") as store:
            assert node(world, store, join).identity() is None
            await exchange(world.url, join, store)
            identity = node(world, store, join).identity()
            assert identity is not None
            assert identity.token.startswith("cdrw_")
        with StateStore(tmp_path / "node") as store:
            again = node(world, store, join).identity()
            assert again is not None
            assert again.token == identity.token
            assert node(world, store, join + "x").identity() is None
        (space,) = await in_thread(world.admin.list_workspaces)
        assert space.name == os.uname().nodename.partition(".")[0].lower().replace("_", "-")


async def test_a_key_that_is_used_up_ends_4(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        join = (await in_thread(lambda: world.admin.create_token("join", "once"))).token
        with StateStore(tmp_path / "one") as store:
            await exchange(world.url, join, store)
        with StateStore(tmp_path / "two") as store:
            with pytest.raises(UserError) as caught:
                await exchange(world.url, join, store)
            assert caught.value.exit_code is Exit.REFUSED
            assert store.current.workspace_token == ""


async def test_a_server_that_gives_a_devices_token_for_a_join_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def join(url: str, key: str, *, name: str) -> WorkspaceCreated:
        await trio.lowlevel.checkpoint()
        return WorkspaceCreated(id=UUID(int=1), name="dev", owner="ann", address="fd60::1", token="cdrd_1")

    monkeypatch.setattr(joining, "join_workspace", join)
    with StateStore(tmp_path) as store:
        with pytest.raises(UserError) as caught:
            await exchange("http://192.0.2.10:3000", "cdrj_1", store)
        assert (caught.value.code, store.current.workspace_token) == ("wrong_kind", "")
