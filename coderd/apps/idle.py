"""Which connections wait for a next request, and for how long. Pure.

A connection belongs to one route: one session, at one port of one workspace. Some apps remember what a user
has done with the connection itself, so it never serves another route.
"""

from collections import OrderedDict, defaultdict
from typing import Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from coderd.model import limits

IDLE_TIMEOUT: Final = limits.APP_IDLE_TIMEOUT
"""Seconds without a request: less than apps' servers wait on their side, mostly five."""
MAX_IDLE: Final = limits.MAX_APP_IDLE
MAX_IDLE_PER_ROUTE: Final = limits.MAX_APP_IDLE_PER_ROUTE
"""A browser opens six at a time."""
MAX_IDLE_PER_WORKSPACE: Final = limits.MAX_APP_IDLE_PER_WORKSPACE
"""They take places there that others need."""

T = TypeVar("T")


class Route(NamedTuple):
    """Whose connection it is, and where to."""

    workspace_id: UUID
    port: int
    session_hash: bytes | None
    """None for all who are not signed in."""


class IdlePool(Generic[T]):
    """Idle connections, whatever they are; who gets them back from here closes or uses them."""

    def __init__(self) -> None:
        self._by_age: OrderedDict[T, tuple[Route, float]] = OrderedDict()
        self._by_route: defaultdict[Route, list[T]] = defaultdict(list)
        self._by_workspace: defaultdict[UUID, OrderedDict[T, None]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        return len(self._by_age)

    def put(self, route: Route, connection: T, now: float) -> list[T]:
        """Keeps a connection; returns the connections to close in its place.

        Closed is the oldest of its route, else of its workspace, else of all.
        """
        self._by_age[connection] = (route, now)
        mine = self._by_route[route]
        mine.append(connection)
        here = self._by_workspace[route.workspace_id]
        here[connection] = None
        if len(mine) > MAX_IDLE_PER_ROUTE:
            return [self._remove(mine[0])]
        if len(here) > MAX_IDLE_PER_WORKSPACE:
            return [self._remove(next(iter(here)))]
        if len(self._by_age) > MAX_IDLE:
            return [self._remove(next(iter(self._by_age)))]
        return []

    def take(self, route: Route) -> T | None:
        """Takes the connection of a route that was used last, as it is the likeliest to be open still."""
        mine = self._by_route.get(route)
        return self._remove(mine[-1]) if mine else None

    def expire(self, now: float) -> list[T]:
        """Removes and returns the connections that were idle for too long, to be closed."""
        old = [one for one, (_, since) in self._by_age.items() if now - since >= IDLE_TIMEOUT]
        return [self._remove(one) for one in old]

    def clear(self) -> list[T]:
        """Removes and returns all connections, to be closed."""
        return [self._remove(one) for one in list(self._by_age)]

    def _remove(self, connection: T) -> T:
        route, _ = self._by_age.pop(connection)
        self._by_route[route].remove(connection)
        if not self._by_route[route]:
            del self._by_route[route]
        here = self._by_workspace[route.workspace_id]
        del here[connection]
        if not here:
            del self._by_workspace[route.workspace_id]
        return connection
