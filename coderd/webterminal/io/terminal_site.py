"""Terminals by browser: the page ``/@owner/workspace/terminal``, and the WebSocket behind it.

A user who may open a shell of a workspace from their own machine may open one here: its owner, and guests
whose share includes the terminal. The browser's session authenticates the user, in requests of the
server's own pages, which a WebSocket shows by its Origin. Session and access are checked again every
second; a shell is ended once its user has lost access, even while no browser is attached to it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, Protocol
from uuid import UUID

import trio
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from coderd.browser.io.sign_in import SignIn
from coderd.http.web import note_known
from coderd.identity.people import Node, User
from coderd.identity.policy import access_of
from coderd.metrics import Counters
from coderd.model import RandomBytes, limits
from coderd.model.errors import MalformedPacket, UserError
from coderd.model.paths import PathRule
from coderd.terminal import frames
from coderd.terminal.frames import Close, Open, Refused, Size
from coderd.webterminal.held_shells import Held, HeldShells
from coderd.webterminal.io.bridge import Bridge, End
from coderd.webterminal.messages import ShellIds
from coderd.webterminal.page import NONCE_SIZE, Problem, make_nonce, policy, problem_page, terminal_page

RECHECK_INTERVAL: Final = 1.0
END_TIMEOUT: Final = limits.TERMINAL_END_TIMEOUT
"""Most seconds to end a shell that a browser left behind."""
MAX_ENDING: Final = limits.MAX_TERMINALS_ENDING
CLOSE_TIMEOUT: Final = limits.TERMINAL_CLOSE_TIMEOUT
_SIGNED_OUT: Final = Refused(
    "signed_out", "You are signed out. The shell keeps running for an hour: sign in here to return to it."
)
_REVOKED: Final = Refused(
    "revoked", "Your access to this workspace was revoked, or it was deleted. The shell has ended."
)
_UNKNOWN: Final = Problem(
    "There is no such workspace.",
    "It may be another user's, and shared with you without a terminal or not at all.",
)
_ANY_SIZE: Final = Size(24, 80)


class Backend(Protocol):
    """What terminals by browser ask of the server."""

    async def find_session(self, session_hash: bytes) -> User | None:
        """Returns the session with this hash and its user, or None."""

    async def find_workspace(self, owner: str, name: str) -> Node | None:
        """Returns a workspace by owner and name, or None."""

    async def find_workspace_by_id(self, node_id: UUID) -> Node | None:
        """Returns a workspace by its id, or None."""

    async def open_terminal(self, workspace: Node) -> trio.SocketStream:
        """Opens a stream on which the workspace speaks terminal frames. Raises UserError."""

    def note_opened(self, viewer: User, workspace: Node) -> None:
        """Notes in the access log, without waiting, that a user opened a terminal."""

    def visiting(self, viewer: User, workspace: Node) -> AbstractContextManager[None]:
        """Keeps a user's open terminal listed among the workspace's connections."""

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        """Closes a stream that ``open_terminal`` gave."""

    def keep(self, workspace: Node) -> None:
        """Keeps the server's tunnel to a workspace though nothing is open there."""

    def describe_path(self, workspace: Node) -> str:
        """Returns ``direct``, or ``relay`` and a region's name; empty while the path is unknown."""

    def terminal_problem(self) -> Problem | None:
        """Returns why this server offers no terminals, or None. An absent workspace is not such a reason."""


class TerminalSite:
    """Terminals by browser.

    Args:
        backend: identities and workspaces.
        sign_in: who browsers are.
        key: seals the ids of shells.
        rng: makes nonces.
        counters: ``web_terminal.*``.
    """

    def __init__(
        self, backend: Backend, sign_in: SignIn, *, key: bytes, rng: RandomBytes, counters: Counters
    ) -> None:
        self._backend = backend
        self._sign_in = sign_in
        self._key = key
        self._rng = rng
        self._counters = counters
        self._held = HeldShells()
        self._ending: set[UUID] = set()
        """Workspaces that are being asked to end shells."""

    def routes(self) -> list[BaseRoute]:
        """Returns the routes of the page and its WebSocket."""
        return [
            Route("/@{owner}/{workspace}/terminal", self._page),
            WebSocketRoute("/@{owner}/{workspace}/terminal/ws", self._websocket),
        ]

    async def run(self) -> None:
        """Ends the shells left by people who may no longer use the workspace, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(RECHECK_INTERVAL)
                await self._reconsider(nursery)

    # The page

    async def _page(self, request: Request) -> Response:
        if not self._sign_in.is_own_host(request):
            return self._sign_in.wrong_host()
        viewer = await self._viewer(request)
        if viewer is None:
            url = self._sign_in.login_url(request.url.path)
            return RedirectResponse(url, 303, {"cache-control": "no-store"})
        workspace = await self._find(viewer, request)
        if workspace is None:
            return self._answer(lambda nonce: problem_page("Not found", _UNKNOWN), 404)
        name = workspace.full_name
        if (problem := self._backend.terminal_problem()) is not None:
            return self._answer(lambda nonce: problem_page(name, problem), 503)
        socket = f"/@{name}/terminal/ws"
        return self._answer(lambda nonce: terminal_page(name, nonce), 200, socket)

    def _answer(self, html: Callable[[str], str], status: int, socket: str = "") -> Response:
        nonce = make_nonce(self._rng(NONCE_SIZE))
        headers = {
            "content-security-policy": policy(self._sign_in.url, nonce, socket),
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
        }
        return HTMLResponse(html(nonce), status, headers)

    # The WebSocket

    async def _websocket(self, websocket: WebSocket) -> None:
        is_ours = websocket.headers.get("origin") == self._sign_in.origin
        is_ours = is_ours and self._sign_in.is_own_host(websocket)
        viewer = await self._viewer(websocket) if is_ours else None
        workspace = await self._find(viewer, websocket) if viewer is not None else None
        if viewer is None or workspace is None:
            self._counters["web_terminal.refused"] += 1
            await websocket.close(End.REVOKED.value)  # it has not been accepted: 403
            return
        note_known(websocket.scope)
        await websocket.accept()
        end = await self._serve(websocket, viewer, workspace)
        self._counters[f"web_terminal.{end.name.lower()}"] += 1
        with trio.move_on_after(CLOSE_TIMEOUT):
            try:
                await websocket.close(end.value)
            except RuntimeError:  # the browser has
                return

    async def _serve(self, websocket: WebSocket, viewer: User, workspace: Node) -> End:
        visit = _Visit(self._held, viewer, workspace)
        bridge = Bridge(
            websocket,
            ShellIds(self._key, viewer.user_id, workspace.node_id),
            may=partial(self._refusal, websocket, workspace),
            path=partial(self._backend.describe_path, workspace),
            on_opened=visit.begin,
        )
        try:
            opening = await bridge.opening()
            return await self._bridge(bridge, opening, viewer, workspace)
        except MalformedPacket:
            return End.MALFORMED
        except (WebSocketDisconnect, trio.TooSlowError):
            return End.GONE
        finally:
            visit.end(has_ended=bridge.has_ended)

    async def _bridge(self, bridge: Bridge, opening: Open, viewer: User, workspace: Node) -> End:
        try:
            stream = await self._backend.open_terminal(workspace)
        except UserError as error:
            problem = problem_of(error)
            await bridge.send(Refused(error.code, f"{problem.message} {problem.hint}".strip()))
            return End.OVER
        self._counters["web_terminal.opened"] += 1
        self._backend.note_opened(viewer, workspace)
        try:
            with self._backend.visiting(viewer, workspace):
                return await bridge.run(stream, opening)
        finally:
            self._backend.release(workspace, stream)

    # Who may

    async def _viewer(self, connection: HTTPConnection) -> User | None:
        session = self._sign_in.session_of(connection) if self._sign_in.is_own(connection) else None
        return await self._backend.find_session(session) if session is not None else None

    async def _find(self, viewer: User, connection: HTTPConnection) -> Node | None:
        names = connection.path_params
        workspace = await self._backend.find_workspace(names["owner"], names["workspace"])
        return workspace if workspace is not None and _may(viewer.user_id, workspace) else None

    async def _refusal(self, connection: HTTPConnection, workspace: Node) -> Refused | None:
        """Why a person may not go on, None while they may."""
        viewer = await self._viewer(connection)
        if viewer is None:
            return _SIGNED_OUT
        now = await self._backend.find_workspace_by_id(workspace.node_id)
        return None if now is not None and _may(viewer.user_id, now) else _REVOKED

    # Shells that were left behind

    async def _reconsider(self, nursery: trio.Nursery) -> None:
        self._held.forget_expired(trio.current_time())
        for workspace_id, shells in _by_workspace(self._held.left()).items():
            workspace = await self._backend.find_workspace_by_id(workspace_id)
            gone = [held for held in shells if workspace is None or not _may(held.user_id, workspace)]
            if workspace is None:
                for held in gone:
                    self._held.end(held)  # with the workspace went its shells
            elif gone and workspace_id not in self._ending and len(self._ending) < MAX_ENDING:
                self._ending.add(workspace_id)
                nursery.start_soon(self._end_shells, workspace, gone)
            elif len(gone) < len(shells):
                self._backend.keep(workspace)

    async def _end_shells(self, workspace: Node, shells: list[Held]) -> None:
        """Asks the workspace to end them; one that does not answer is asked again."""
        try:
            for held in shells:
                with trio.fail_after(END_TIMEOUT):
                    await self._end_shell(workspace, held)
                self._held.end(held)
                self._counters["web_terminal.ended_by_policy"] += 1
        except (UserError, OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._counters["web_terminal.not_ended"] += 1
        finally:
            self._ending.discard(workspace.node_id)

    async def _end_shell(self, workspace: Node, held: Held) -> None:
        stream = await self._backend.open_terminal(workspace)
        try:
            await stream.send_all(frames.encode(Open(0, _ANY_SIZE, held.token)) + frames.encode(Close()))
            while await stream.receive_some():
                pass
        finally:
            self._backend.release(workspace, stream)


class _Visit:
    """A browser at a shell, from its opening to its end."""

    def __init__(self, table: HeldShells, viewer: User, workspace: Node) -> None:
        self._table = table
        self._viewer = viewer
        self._workspace = workspace
        self._held: Held | None = None

    def begin(self, token: bytes) -> None:
        if self._held is not None:  # the workspace says it twice
            return
        self._held = self._table.attach(Held(self._viewer.user_id, self._workspace.node_id, token))

    def end(self, *, has_ended: bool) -> None:
        if self._held is None:
            return
        self._table.detach(self._held, trio.current_time())
        if has_ended:
            self._table.end(self._held)


def problem_of(error: UserError) -> Problem:
    """Returns what a user reads when a workspace gives no terminal, and what they can do about it."""
    sentence = error.sentence
    hint = error.hint
    if error.code == "no_terminal":
        hint = "Its owner can switch terminals on: set terminal = true in its /etc/coderd/coderd.toml, then restart it."
    elif error.code == "offline":
        hint = "Start it, or see why it is offline with: systemctl status coderd."
    return Problem(sentence, hint)


def _by_workspace(shells: list[Held]) -> dict[UUID, list[Held]]:
    found: dict[UUID, list[Held]] = {}
    for held in shells:
        found.setdefault(held.workspace_id, []).append(held)
    return found


def _may(user_id: UUID, workspace: Node) -> bool:
    """Returns whether a user may open a shell of a workspace, by browser as from their own machine."""
    access = access_of(user_id, workspace)
    return workspace.path is not PathRule.DENY and access is not None and access.terminal
