"""A site of web apps that listens on a real socket: identities and one workspace in memory, a real app or bare services behind."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import trio
from starlette.responses import PlainTextResponse
from web_app import app as real_app

from coderd.apps.address import Wildcard
from coderd.apps.io.app_site import AppSite
from coderd.browser.io.sign_in import NewSession, SignIn
from coderd.config.url import ServerUrl
from coderd.http.relay_routes import refuse_derp
from coderd.http.server import open_tcp_listeners, serve_http
from coderd.http.websocket import TextRoute, TextSocket
from coderd.identity.apps import App
from coderd.identity.people import Node, User
from coderd.identity.tokens import hash_token
from coderd.identity.visits import Visits
from coderd.metrics import Counters
from coderd.model.errors import UserError
from coderd.model.netmap import NodeKind

ANN, BOB = User(UUID(int=1), "ann"), User(UUID(int=2), "bob")
DEV = Node(UUID(int=9), NodeKind.WORKSPACE, "dev", ANN, 0.0)
ANNS, BOBS = "cdrs_ann", "cdrs_bob"
PREFIX = "/@ann/dev/apps/8080"
HOST = "8080--dev--ann.apps.example.com"

WEBSOCKET_KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
CLOSED_BY_POLICY = b"\x88\x02" + (1008).to_bytes(2)
"""A close frame as a WebSocket's server sends it."""

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@dataclass
class People:
    """Identities and one workspace in memory; its ports are sockets of this machine."""

    ports: dict[int, int] = field(default_factory=dict)
    sessions: dict[bytes, User] = field(
        default_factory=lambda: {hash_token(ANNS): ANN, hash_token(BOBS): BOB}
    )
    apps: dict[str, App] = field(default_factory=dict)
    n_asked: int = 0
    n_open: int = 0
    n_dialled: int = 0
    noted: list[tuple[str, str, str]] = field(default_factory=list)
    visits: Visits = field(default_factory=lambda: Visits(time.time))
    released: trio.Event = field(default_factory=trio.Event)

    streams: list[trio.SocketStream] = field(default_factory=list)

    def cut(self) -> None:
        """The workspace is no more the server's to reach."""
        for stream in self.streams:
            stream.socket.close()

    @property
    def n_changes(self) -> int:
        return hash(repr((self.sessions, self.apps)))

    async def none_open(self) -> None:
        with trio.fail_after(5):
            while self.n_open:
                self.released = trio.Event()
                await self.released.wait()

    async def find_session(self, session_hash: bytes) -> User | None:
        self.n_asked += 1
        return self.sessions.get(session_hash)

    async def find_workspace(self, owner: str, name: str) -> Node | None:
        return DEV if (owner, name) == ("ann", "dev") else None

    async def find_app(self, workspace_id: UUID, name: str) -> App | None:
        return self.apps.get(name)

    async def sign_in(self, token: str, source: str) -> NewSession | str:
        if hash_token(token) not in self.sessions:
            return "This token is unknown."
        self.sessions[b"b" * 32] = self.sessions[hash_token(token)]
        return NewSession(b"b" * 32, 3600.0)

    def unix_now(self) -> float:
        return time.time()

    async def sign_out(self, session_hash: bytes, source: str) -> None:
        del self.sessions[session_hash]

    async def dial(self, workspace: Node, port: int) -> trio.SocketStream:
        if port not in self.ports:
            raise UserError(f"nothing listens on port {port} of the workspace", code="no_service")
        self.n_open += 1
        self.n_dialled += 1
        self.streams.append(await trio.open_tcp_stream("127.0.0.1", self.ports[port]))
        return self.streams[-1]

    def note_opened(self, viewer: User, workspace: Node, app: App) -> None:
        self.noted.append((viewer.name, workspace.name, app.name))

    def visiting(self, viewer: User | None, workspace: Node, app: App) -> AbstractContextManager[None]:
        return self.visits.during(viewer, workspace, app.name)

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        self.n_open -= 1
        self.released.set()
        stream.socket.close()


@dataclass
class World:
    """A site that listens, and who is there."""

    people: People
    port: int
    nursery: trio.Nursery
    counters: Counters

    def client(self, token: str = ANNS, **options: Any) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=20, **options
        )

    async def ask(self, line: str, *fields: str) -> trio.SocketStream:
        """Ann's request on a connection of its own, its answer not yet read."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        lines = [f"{line} HTTP/1.1", "Host: x", f"Authorization: Bearer {ANNS}", *fields, "", ""]
        await stream.send_all("\r\n".join(lines).encode())
        return stream

    async def serve(self, port: int, serve: Serve) -> None:
        """A bare service in the workspace."""
        (listener, *_) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.people.ports[port] = listener.socket.getsockname()[1]
        self.nursery.start_soon(trio.serve_listeners, serve, [listener])


async def refuse_coordination(socket: TextSocket) -> None:
    """What stands for coordination beside the site."""
    await socket.refuse(426, b"{}", {})


@asynccontextmanager
async def world(*, trusts_path_apps: bool = False) -> AsyncIterator[World]:
    people, counters = People(), Counters()
    async with trio.open_nursery() as nursery:
        (front, *_) = await open_tcp_listeners(0, host="127.0.0.1")
        port = front.socket.getsockname()[1]
        url = ServerUrl("http", "127.0.0.1", port)
        sign_in = SignIn(people, url, bytes(32))
        wildcard = Wildcard.parse("*.apps.example.com")
        site = AppSite(
            people,
            sign_in,
            access_url=url,
            wildcard=wildcard,
            has_path_apps=True,
            trusts_path_apps=trusts_path_apps,
            key=bytes(32),
            counters=counters,
            rest=sign_in.before(PlainTextResponse("the server's own")),
        )
        (back, *_) = await open_tcp_listeners(0, host="127.0.0.1")
        people.ports[8080] = back.socket.getsockname()[1]
        serve = partial(
            serve_http,
            derp=refuse_derp,
            websockets={"/echo": TextRoute(refuse_coordination, 1024)},
            is_apps_host=wildcard.covers,
        )
        await nursery.start(serve, [front], site)
        await nursery.start(partial(serve_http, derp=refuse_derp), [back], real_app)
        nursery.start_soon(site.run)
        yield World(people, port, nursery, counters)
        nursery.cancel_scope.cancel()


async def until_seen(stream: trio.SocketStream, wanted: bytes) -> bytes:
    """All that came until this did."""
    seen = b""
    with trio.fail_after(10):
        while wanted not in seen:
            data = await stream.receive_some()
            assert data, seen
            seen += data
    return seen
