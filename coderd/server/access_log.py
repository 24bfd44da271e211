"""Records of opened tunnels, web apps and terminals: queued without waiting, written in batches.

``tunnel.used`` comes from a device: its first report of a path to a workspace on each connection. The server
introduces the two nodes and sees none of the traffic between them. ``app.used`` and ``terminal.used`` the
server sees itself, since they pass through it: one record an hour for each user and thing.
"""

import time
from collections import OrderedDict
from typing import Final
from uuid import UUID

import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from coderd.identity.apps import App
from coderd.identity.io.access_records import AccessRecord
from coderd.identity.people import Node, User
from coderd.model import limits
from coderd.model.fair import FairQueue
from coderd.server.directory import Directory

MAX_WAITING: Final = limits.MAX_OPENINGS_WAITING
"""Records queued for the store.

One more drops one of the user with the most, counted as ``openings.dropped``.
"""
PAUSE: Final = 1.0
"""Seconds between two batches: each commit flushes the disk."""

AGAIN_AFTER: Final = 3600.0
"""Seconds after which a user's use of an app or terminal is recorded again."""

log = structlog.get_logger(__name__)


class AccessLog:
    """Queue of access records."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._waiting = FairQueue[UUID, AccessRecord](MAX_WAITING)
        self._noted = trio.Event()
        self._noted_at: OrderedDict[tuple[UUID, str, UUID, str], float] = OrderedDict()
        """When each user's use of each app or terminal was last recorded, the oldest first."""

    def note_tunnel(self, device: Node, workspace: Node, path: str) -> None:
        """Records that a device reports a path to a workspace. Does not wait."""
        self._note(device.owner.user_id, device.full_name, device.node_id, "tunnel.used", workspace, path)

    def note_app(self, viewer: User, workspace: Node, app: App) -> None:
        """Records that a user uses an app of a workspace, at most once an hour. Does not wait."""
        self._note_hourly(viewer, "app.used", workspace, app.name)

    def note_terminal(self, viewer: User, workspace: Node) -> None:
        """Records that a user uses a terminal of a workspace, at most once an hour. Does not wait."""
        self._note_hourly(viewer, "terminal.used", workspace, "")

    def _note_hourly(self, viewer: User, action: str, workspace: Node, detail: str) -> None:
        key, now = (viewer.user_id, action, workspace.node_id, detail), trio.current_time()
        if now - self._noted_at.get(key, -AGAIN_AFTER) < AGAIN_AFTER:
            return
        self._noted_at[key] = now
        self._noted_at.move_to_end(key)
        if len(self._noted_at) > MAX_WAITING:
            self._noted_at.popitem(last=False)
        self._note(viewer.user_id, viewer.name, viewer.user_id, action, workspace, detail)

    def _note(
        self, user_id: UUID, actor: str, actor_id: UUID, action: str, workspace: Node, detail: str
    ) -> None:
        used = AccessRecord(time.time(), actor, actor_id, action, workspace.full_name, detail, user_id)
        if not self._waiting.push(user_id, used):
            self._directory.counters["openings.dropped"] += 1
        self._noted.set()

    async def run(self) -> None:
        """Writes queued records in batches until cancelled, then writes what is left."""
        try:
            while True:
                await self._noted.wait()
                self._noted = trio.Event()
                await self._write()
                await trio.sleep(PAUSE)
        finally:
            with trio.CancelScope(shield=True):
                await self._write()

    async def _write(self) -> None:
        batch = self._waiting.take_all()
        if not batch:
            return
        try:
            with trio.CancelScope(shield=True):  # what has left the queue is written, also at the end
                await self._directory.in_thread(lambda: self._directory.store.access_records.add(batch))
        except SQLAlchemyError as error:
            self._directory.counters["openings.dropped"] += len(batch)
            log.warning("openings_not_written", n=len(batch), error=type(error).__name__)
