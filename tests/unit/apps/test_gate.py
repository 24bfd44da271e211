"""What is open is judged again side by side.

Many wishes, or a slow store, delay no revocation by their number.
"""

from contextlib import AbstractContextManager, nullcontext
from uuid import UUID

import trio
from trio.testing import MockClock

from coderd.apps.access import Verdict
from coderd.apps.address import AppAddress
from coderd.apps.io.gate import RECHECK_INTERVAL, RECHECKS_AT_ONCE, AccessRequest, Answer, Gate, Revoked
from coderd.identity.apps import App
from coderd.identity.people import Node, User
from coderd.model.netmap import NodeKind

ANN = User(UUID(int=1), "ann")
DEV = Node(UUID(int=2), NodeKind.WORKSPACE, "dev", ANN, 0.0)


class SlowBackend:
    """Takes ``DELAY`` seconds for each look at the session; ann is signed out when a test says so."""

    DELAY = 0.1
    n_changes = 0

    def __init__(self) -> None:
        self.is_signed_in = True
        self.n_asking = self.n_at_once = 0

    async def find_session(self, session_hash: bytes) -> User | None:
        self.n_asking += 1
        self.n_at_once = max(self.n_at_once, self.n_asking)
        await trio.sleep(self.DELAY)
        self.n_asking -= 1
        return ANN if self.is_signed_in else None

    async def find_workspace(self, owner: str, name: str) -> Node | None:
        return DEV

    async def find_app(self, workspace_id: UUID, name: str) -> App | None:
        return None

    async def dial(self, workspace: Node, port: int) -> trio.SocketStream:
        raise NotImplementedError

    def note_opened(self, viewer: User, workspace: Node, app: App) -> None:
        raise NotImplementedError

    def visiting(self, viewer: User | None, workspace: Node, app: App) -> AbstractContextManager[None]:
        return nullcontext()

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        raise NotImplementedError


async def test_many_open_wishes_are_judged_again_side_by_side(autojump_clock: MockClock) -> None:
    n_wishes, backend, ended = 40, SlowBackend(), list[float]()
    gate, all_ended = Gate(backend), trio.Event()

    async def hold(number: int) -> None:
        wish = AccessRequest(AppAddress("ann", "dev", str(8000 + number)), bytes([number]))
        try:
            with gate.opened(wish, Answer(Verdict.OPEN, DEV, App(str(8000 + number), 8000 + number), ANN)):
                await trio.sleep_forever()
        except Revoked:
            ended.append(trio.current_time())
            if len(ended) == n_wishes:
                all_ended.set()

    async with trio.open_nursery() as nursery:
        for number in range(n_wishes):
            nursery.start_soon(hold, number)
        nursery.start_soon(gate.run)
        await trio.sleep(RECHECK_INTERVAL / 2)
        backend.is_signed_in = False
        began = trio.current_time()
        await all_ended.wait()
        nursery.cancel_scope.cancel()
    assert backend.n_at_once == RECHECKS_AT_ONCE
    side_by_side = n_wishes * backend.DELAY / RECHECKS_AT_ONCE
    assert max(ended) - began <= RECHECK_INTERVAL + side_by_side + 0.01
