"""Who asks for which app, and whether they may: asked when a request comes, and every second while it lasts.

A page of many parts asks for the same grant many times within a moment. A grant is remembered for a second,
as long as nothing at all has been changed in the store: a right that ends there ends at once.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol
from uuid import UUID

import trio

from coderd.apps.access import Verdict, judge
from coderd.apps.address import AppAddress, port_of
from coderd.identity.apps import App
from coderd.identity.people import Node, User
from coderd.model import limits
from coderd.model.seats import NoSeat, Seats

RECHECK_INTERVAL = 1.0
"""Seconds after which a revoked right has ended what was opened by it, at most."""
RECHECKS_AT_ONCE: Final = 4
"""Access requests judged again at a time: half of the store's threads, so that new requests find one."""
MAX_OPEN: Final = limits.MAX_APP_STREAMS
MAX_OPEN_AT_WORKSPACE: Final = limits.MAX_APP_STREAMS_OF_WORKSPACE
"""Connections to one workspace.

The workspace counts those of all browsers as the server's, which shares them out here.
"""
MAX_OPEN_AT_WORKSPACE_EACH: Final = limits.MAX_APP_STREAMS_OF_WORKSPACE_EACH
_STRANGERS: Final = ""
"""Key of all unauthenticated browsers, which count as one user."""
MAX_REMEMBERED: Final = limits.MAX_APP_GRANTS
"""Access requests with remembered grants."""


class Backend(Protocol):
    """What web apps ask of the server."""

    @property
    def n_changes(self) -> int:
        """A number that differs after any change of what this backend answers."""

    async def find_session(self, session_hash: bytes) -> User | None:
        """Returns the session with this hash and its user, or None."""

    async def find_workspace(self, owner: str, name: str) -> Node | None:
        """Returns a workspace by owner and name, or None."""

    async def find_app(self, workspace_id: UUID, name: str) -> App | None:
        """Returns an app that was set, or None."""

    async def dial(self, workspace: Node, port: int) -> trio.SocketStream:
        """Connects to a service on a workspace's loopback. Raises UserError."""

    def note_opened(self, viewer: User, workspace: Node, app: App) -> None:
        """Notes in the access log, without waiting, that a user opened an app."""

    def visiting(self, viewer: User | None, workspace: Node, app: App) -> AbstractContextManager[None]:
        """Keeps a user's use of an app listed among the workspace's connections."""

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        """Closes a connection that ``dial`` gave."""


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Request of a browser for an app, with the session that it is made by."""

    address: AppAddress
    session_hash: bytes | None
    """None for an unauthenticated browser."""
    is_owners_only: bool = False
    """Whether only the workspace's owner is admitted by this address, whatever the app's setting."""


class Answer(NamedTuple):
    """Verdict on an access request.

    With workspace and app if it was granted, and with the authenticated user if there is one.
    """

    verdict: Verdict
    workspace: Node | None = None
    app: App | None = None
    viewer: User | None = None


class _Grant(NamedTuple):
    """An answer that opens something, and when it was found."""

    answer: Answer
    n_changes: int
    at: float


class Revoked(Exception):
    """The access by which something was opened has been revoked."""


class TooManyOpen(Exception):
    """A user has as many connections open as one may, or one of them was closed for a user with fewer."""


class Gate:
    """Judges requests, and ends what was opened by those that would not be granted any more."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._open: defaultdict[AccessRequest, set[trio.CancelScope]] = defaultdict(set)
        self._n_open: Counter[str] = Counter()
        """Of each person who is signed in, whatever their sessions."""
        self._seats: dict[UUID, Seats[trio.CancelScope]] = {}
        """Of each workspace, those who have something open there."""
        self._displaced: set[trio.CancelScope] = set()
        self._granted: dict[AccessRequest, _Grant] = {}

    async def judge(self, request: AccessRequest) -> Answer:
        """Decides whether an access request is granted now."""
        known = self._granted.get(request)
        if (
            known is not None
            and known.n_changes == self._backend.n_changes
            and trio.current_time() - known.at < RECHECK_INTERVAL
        ):
            return known.answer
        return await self._ask(request)

    @contextmanager
    def opened(self, request: AccessRequest, answer: Answer) -> Iterator[None]:
        """Holds a grant while something is open by it, and cancels the body when the access is revoked.

        Raises:
            TooManyOpen: at once if the user has too many open, or later if a user with fewer needs the place.
            Revoked: when the request would not be granted any more.
        """
        assert answer.workspace is not None
        person = _STRANGERS if answer.viewer is None else str(answer.viewer.user_id)
        scope = trio.CancelScope()
        try:
            with scope, self._seated(scope, person, answer.workspace.node_id):
                self._open[request].add(scope)
                try:
                    yield
                finally:
                    self._open[request].remove(scope)
                    if not self._open[request]:
                        del self._open[request]
            if scope.cancelled_caught:
                raise TooManyOpen if scope in self._displaced else Revoked
        finally:
            self._displaced.discard(scope)

    @contextmanager
    def _seated(self, scope: trio.CancelScope, person: str, workspace: UUID) -> Iterator[None]:
        """Holds one of the workspace's places for a user. Raises TooManyOpen."""
        if person != _STRANGERS and self._n_open[person] >= MAX_OPEN:
            raise TooManyOpen
        seats = self._seats.get(workspace) or Seats[trio.CancelScope](
            limit=MAX_OPEN_AT_WORKSPACE, limit_each=MAX_OPEN_AT_WORKSPACE_EACH
        )
        try:
            displaced = seats.take(person, scope)
        except NoSeat:
            raise TooManyOpen from None
        self._seats[workspace] = seats
        if displaced is not None:
            self._displaced.add(displaced)
            displaced.cancel()
        self._n_open[person] += 1
        try:
            yield
        finally:
            self._n_open[person] -= 1
            if not self._n_open[person]:
                del self._n_open[person]
            seats.leave(scope)
            if not seats and self._seats.get(workspace) is seats:
                del self._seats[workspace]

    def visiting(self, answer: Answer) -> AbstractContextManager[None]:
        """Keeps an open app listed among the workspace's connections."""
        assert answer.workspace is not None and answer.app is not None  # noqa: PT018, one condition
        return self._backend.visiting(answer.viewer, answer.workspace, answer.app)

    async def run(self) -> None:
        """Judges the requests of all that is open periodically, until cancelled."""
        while True:
            await trio.sleep(RECHECK_INTERVAL)
            requests = iter(list(self._open))
            async with trio.open_nursery() as nursery:
                for _ in range(RECHECKS_AT_ONCE):
                    nursery.start_soon(self._recheck, requests)

    async def _recheck(self, requests: Iterator[AccessRequest]) -> None:
        """Judges the remaining requests one after the other, and cancels those that are no longer granted."""
        for request in requests:
            answer = await self._ask(request)
            if answer.verdict is not Verdict.OPEN:
                for scope in self._open.get(request, ()):
                    scope.cancel()

    async def _ask(self, request: AccessRequest) -> Answer:
        """Judges an access request by asking the store, and remembers a grant."""
        n_changes, now = self._backend.n_changes, trio.current_time()
        answer = await self._look(request)
        self._granted.pop(request, None)
        if answer.verdict is Verdict.OPEN:
            self._granted[request] = _Grant(answer, n_changes, now)
            if len(self._granted) > MAX_REMEMBERED:
                del self._granted[next(iter(self._granted))]
        return answer

    async def _look(self, request: AccessRequest) -> Answer:
        address = request.address
        viewer = (
            await self._backend.find_session(request.session_hash)
            if request.session_hash is not None
            else None
        )
        workspace = await self._backend.find_workspace(address.owner, address.workspace)
        app = await self._find_app(workspace, address.app)
        if app is None:
            return Answer(Verdict.SIGN_IN if viewer is None else Verdict.NOT_FOUND)
        verdict = judge(app, workspace, viewer)
        is_owner = workspace is not None and viewer is not None and workspace.owner.user_id == viewer.user_id
        if request.is_owners_only and verdict is Verdict.OPEN and not is_owner:
            return Answer(Verdict.SIGN_IN if viewer is None else Verdict.NOT_FOUND)
        return Answer(verdict, workspace, app, viewer)

    async def _find_app(self, workspace: Node | None, name: str) -> App | None:
        """Returns an app with its setting; a port without a setting is only for the owner."""
        found = await self._backend.find_app(workspace.node_id, name) if workspace is not None else None
        if found is not None:
            return found
        port = port_of(name)
        return App(name, port) if port is not None else None


def unix_now() -> float:
    """Returns the time in wall-clock seconds."""
    return time.time()
