"""Lists of paths are as long as nodes make them: whoever asks holds up nobody."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
import trio

from coderd.api.io.routes import Call, Caller
from coderd.api.messages import ListQuery, PathList
from coderd.api.rules import RULES
from coderd.coordination.paths import Reach
from coderd.identity.people import Node, User
from coderd.model.derpmap import DerpMap
from coderd.model.derpmap_json import derp_map_to_json
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind
from coderd.model.roles import Role
from coderd.server.directory import Directory
from coderd.server.handlers import paths

ANN, BOB = User(UUID(int=1), "ann"), User(UUID(int=2), "bob")
DEV = Node(UUID(int=9), NodeKind.WORKSPACE, "dev", ANN, 0.0)


class Registry:
    """Very many devices, each of which reaches one workspace."""

    derp_map = derp_map_to_json(DerpMap())

    def __init__(self, *owners: User) -> None:
        self.n_looked_at = 0
        self._nodes = [
            Node(UUID(int=100 + number), NodeKind.DEVICE, f"d{number}", owner, 0.0)
            for number, owner in enumerate(owners)
        ]

    def connections(self) -> Iterator[Any]:
        return (SimpleNamespace(node=node) for node in self._nodes)

    @property
    def path_reports(self) -> "Registry":
        return self

    def reaches_of(self, connection: Any, now: float) -> Iterator[Reach]:
        self.n_looked_at += 1
        yield Reach(connection.node, DEV, PathKind.DIRECT, 0, 0.01, 1.0)


async def listed(registry: Registry) -> PathList:
    rule = next(rule for rule in RULES if rule.operation == "list_paths")
    call = Call(rule, Caller(Role.MEMBER, ANN.user_id, "ann"), "", {}, None, ListQuery(), "")
    directory = cast(Directory, SimpleNamespace(registry=registry))
    answer = await paths.PathHandlers(directory, 0).handlers()["list_paths"](call)
    assert isinstance(answer, PathList)
    return answer


async def test_who_asks_for_paths_has_others_run_in_between() -> None:
    n_turns = 0

    async def count() -> None:
        nonlocal n_turns
        while True:
            n_turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        assert len((await listed(Registry(*[ANN] * 1600))).paths) == 1600
        nursery.cancel_scope.cancel()
    assert n_turns >= 50


async def test_others_nodes_cost_who_asks_for_their_own_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(ANN, *[BOB] * 1000)
    assert [row.node for row in (await listed(registry)).paths] == ["ann/d0"]
    assert registry.n_looked_at == 1
    monkeypatch.setattr(paths, "MAX_LISTED", 10)
    assert len((await listed(Registry(*[ANN] * 20))).paths) == 10
