"""Shares that end by themselves end what is open by them, when their time has come."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from coderd.coordination.registry import Registry
from coderd.derp.io.server import RelayServer
from coderd.identity.effects import Change
from coderd.identity.io.store import Store
from coderd.identity.people import Node
from coderd.identity.shares import Wish
from coderd.metrics import Counters
from coderd.server.directory import Directory
from coderd.server.share_clock import ShareClock

T = TypeVar("T")


class Amended(Directory):
    """A directory that applies nothing, and notes what it would have."""

    def __init__(self, store: Store) -> None:
        registry, relay = Registry(), cast(RelayServer, None)
        super().__init__(store, Counters(), registry, relay)
        self.amended: list[Node] = []
        self.n_asked = 0

    async def in_thread(self, question: Callable[[], T]) -> T:
        self.n_asked += 1
        return question()

    async def change_in_thread(self, act: Callable[[], Change[T]]) -> T:
        change = act()
        self.amended += change.effects.amended
        return change.result


async def test_a_share_is_ended_at_its_time_and_the_store_not_asked_again_before(tmp_path: Path) -> None:
    now = 1000.0
    store = Store(tmp_path / "identity.db", clock=lambda: now)
    ann = store.users.create("ann").result.user
    store.users.create("bob")
    store.nodes.create_workspace(ann, "dev")
    store.shares.offer(ann, "dev", "bob", Wish(lifetime=60), accepts=True)
    directory = Amended(store)
    clock = ShareClock(directory, lambda: now)
    for _ in range(60):
        await clock.beat()
        now += 1
    assert (directory.amended, directory.n_asked) == ([], 1)
    await clock.beat()
    assert [(node.full_name, node.shares) for node in directory.amended] == [("ann/dev", ())]
    store.close()
