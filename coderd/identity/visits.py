"""Web apps and terminals of workspaces that browsers have open through this server.

Pure but for the clock given.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from coderd.identity.people import Node, User


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """Web app or terminal that a browser has open."""

    user: User | None
    """The signed-in user; None for an unauthenticated visitor of a public app."""
    workspace_id: UUID
    app: str
    """The app's name; empty for a terminal."""
    since: float
    """Wall-clock seconds."""


class Visits:
    """Visits that are open now.

    Args:
        clock: wall-clock seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[UUID, dict[Visit, None]] = {}

    @contextmanager
    def during(self, user: User | None, workspace: Node, app: str = "") -> Iterator[None]:
        """Counts a visit while a user has an app, or else a terminal, open."""
        visit = Visit(user, workspace.node_id, app, self._clock())
        self._open.setdefault(workspace.node_id, {})[visit] = None
        try:
            yield
        finally:
            here = self._open[workspace.node_id]
            del here[visit]
            if not here:
                del self._open[workspace.node_id]

    def of(self, workspace_id: UUID) -> list[Visit]:
        """Lists a workspace's open visits: of each user and app the one that has lasted longest."""
        longest: dict[tuple[UUID | None, str], Visit] = {}
        for visit in self._open.get(workspace_id, ()):  # in the order in which they began
            longest.setdefault((visit.user.user_id if visit.user is not None else None, visit.app), visit)
        return list(longest.values())
