"""What was opened, on its way to the store: coordination notes it without waiting, and a task writes it in batches.

``tunnel.used`` is a device's own word, by its report that it has a path to a workspace, the first of each connection: the server
introduces the two, and sees nothing of what goes between them.
"""

import time
from collections import deque
from typing import Final

import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from coderd.identity.io.openings import Opening
from coderd.identity.people import Node
from coderd.model import limits
from coderd.server.directory import Directory

MAX_WAITING: Final = limits.MAX_OPENINGS_WAITING
"""Records that wait for the store; more are dropped, and counted as ``openings.dropped``."""
PAUSE: Final = 1.0
"""Seconds between two batches: a commit costs a disk's flush."""

log = structlog.get_logger(__name__)


class OpeningLog:
    """The records that wait."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._waiting: deque[Opening] = deque()
        self._noted = trio.Event()

    def note_tunnel(self, device: Node, workspace: Node, path: str) -> None:
        """A device says that it reaches a workspace. Never waits."""
        if len(self._waiting) >= MAX_WAITING:
            self._directory.counters["openings.dropped"] += 1
            return
        self._waiting.append(
            Opening(time.time(), device.full_name, device.node_id, "tunnel.used", workspace.full_name, path)
        )
        self._noted.set()

    async def run(self) -> None:
        """Writes what is noted, until cancelled; then what is left."""
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
        batch = list(self._waiting)
        self._waiting.clear()
        if not batch:
            return
        try:
            await self._directory.in_thread(lambda: self._directory.store.openings.add(batch))
        except SQLAlchemyError as error:
            self._directory.counters["openings.dropped"] += len(batch)
            log.warning("openings_not_written", n=len(batch), error=type(error).__name__)
