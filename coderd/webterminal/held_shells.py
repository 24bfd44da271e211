"""The shells that browsers have opened in workspaces, as the server knows them. Pure.

To a workspace all browsers are one peer, the server. It is therefore the server that notices when a user has
lost access to a workspace, and ends the shells that this user left behind there.
"""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from coderd.model import limits
from coderd.terminal.sessions import DETACHED_LIFETIME

MAX_HELD: Final = limits.MAX_TERMINALS_HELD


@dataclass(slots=True, eq=False)
class Held:
    """One browser's shell in a workspace."""

    user_id: UUID
    workspace_id: UUID
    token: bytes = field(repr=False)
    n_attached: int = 0
    detached_at: float = 0.0


class HeldShells:
    """Table of the shells of browsers.

    Beyond the limit the one that was detached first is forgotten; its workspace ends it in time.
    """

    def __init__(self, limit: int = MAX_HELD) -> None:
        self._limit = limit
        self._held: dict[tuple[UUID, bytes], Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def attach(self, shell: Held) -> Held:
        """Notes that a browser opened a shell or came back to it. Returns the table's entry."""
        held = self._held.setdefault((shell.workspace_id, shell.token), shell)
        held.n_attached += 1
        if len(self._held) > self._limit and (left := self.left()):
            self.end(min(left, key=lambda one: one.detached_at))
        return held

    def detach(self, held: Held, now: float) -> None:
        """Notes that a browser has left a shell."""
        held.n_attached -= 1
        held.detached_at = now

    def end(self, held: Held) -> None:
        """Removes a shell that has ended."""
        self._held.pop((held.workspace_id, held.token), None)

    def left(self) -> list[Held]:
        """Returns the shells to which no browser is attached."""
        return [held for held in self._held.values() if held.n_attached == 0]

    def forget_expired(self, now: float) -> None:
        """Drops the shells that their workspaces have ended by now, as no browser came back in time."""
        for held in self.left():
            if now - held.detached_at >= DETACHED_LIFETIME:
                self.end(held)
