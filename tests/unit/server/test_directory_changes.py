"""Changes of identities reach the registry in the order in which the store committed them."""

import threading
from typing import cast
from uuid import UUID

import pytest
import trio

from coderd.coordination.registry import Registry
from coderd.derp.io.server import RelayServer
from coderd.identity.effects import Change, Effects
from coderd.identity.io.store import Store
from coderd.identity.people import Node, Share, User
from coderd.metrics import Counters
from coderd.model.netmap import NodeKind
from coderd.model.ports import ALL_PORTS
from coderd.server.directory import Directory

ANN, BOB = User(UUID(int=1), "ann"), User(UUID(int=2), "bob")


class NotingRegistry(Registry):
    """Remembers how each amended workspace was shared."""

    def __init__(self) -> None:
        super().__init__()
        self.amended: list[tuple[User, ...]] = []

    def amend(self, node: Node) -> None:
        self.amended.append(node.shared_with)


def workspace(*guests: User) -> Node:
    return Node(
        UUID(int=9),
        NodeKind.WORKSPACE,
        "dev",
        ANN,
        0.0,
        shares=tuple(Share(guest, ALL_PORTS, terminal=True) for guest in guests),
    )


async def test_a_slow_thread_cannot_bring_a_revoked_share_back() -> None:
    registry = NotingRegistry()
    directory = Directory(cast(Store, None), Counters(), registry, cast(RelayServer, None))
    has_shared, may_report = threading.Event(), threading.Event()

    def share() -> Change[None]:
        has_shared.set()
        assert may_report.wait(10)
        return Change(None, Effects(amended=(workspace(BOB),)))

    def unshare() -> Change[None]:
        return Change(None, Effects(amended=(workspace(),)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(directory.change_in_thread, share)
        while not has_shared.is_set():
            await trio.lowlevel.checkpoint()
        nursery.start_soon(directory.change_in_thread, unshare)
        with trio.move_on_after(0.05):
            await trio.sleep_forever()  # long enough for a second thread, had it not to wait for the first
        may_report.set()
    assert registry.amended == [(BOB,), ()]


async def test_a_refused_change_lets_the_next_one_pass() -> None:
    directory = Directory(cast(Store, None), Counters(), NotingRegistry(), cast(RelayServer, None))

    def refuse() -> Change[None]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await directory.change_in_thread(refuse)
    assert await directory.change_in_thread(lambda: Change(3)) == 3
