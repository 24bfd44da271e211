"""Terminals by browser on real sockets: the site in front, a workspace's node API with real shells behind, identities in memory."""

import os
import pwd
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from uuid import UUID

import trio
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from coderd.browser.io.sign_in import NewSession, SignIn
from coderd.browser.passes import make_pass
from coderd.browser.requests import SESSION_COOKIES
from coderd.config.url import ServerUrl
from coderd.http.relay_routes import refuse_derp
from coderd.http.server import open_tcp_listeners, serve_http
from coderd.identity.people import Node, Share, User
from coderd.identity.visits import Visits
from coderd.metrics import Counters
from coderd.model.account import Account
from coderd.model.errors import UserError
from coderd.model.netmap import NodeKind
from coderd.model.ports import ALL_PORTS
from coderd.peerapi.message import TerminalRequest, encode, parse_dial_reply
from coderd.terminal.io.service import TerminalService
from coderd.webterminal.io.terminal_site import TerminalSite
from coderd.webterminal.page import Problem
from tests.shell.node_api_world import SERVER, serve_anybody

ANN, BOB = User(UUID(int=1), "ann"), User(UUID(int=2), "bob")
ANNS, BOBS = b"a" * 32, b"b" * 32
"""Sessions, by their hashes."""
PAGE = "/@ann/dev/terminal"
KEY = bytes(32)
NOW = 1_000_000.0


@dataclass
class Server:
    """Identities, one workspace, and the ways to it."""

    node_api: tuple[str, int] = ("", 0)
    workspace: Node | None = field(
        default_factory=lambda: Node(
            UUID(int=9), NodeKind.WORKSPACE, "dev", ANN, 0.0, shares=(Share(BOB, ALL_PORTS, terminal=True),)
        )
    )
    sessions: dict[bytes, User] = field(default_factory=lambda: {ANNS: ANN, BOBS: BOB})
    problem: Problem | None = None
    is_offline: bool = False
    noted: list[tuple[str, str]] = field(default_factory=list)
    visits: Visits = field(default_factory=lambda: Visits(time.time))
    path: str = "relay Here"
    streams: list[trio.SocketStream] = field(default_factory=list)

    def unshare(self) -> None:
        """Bob may come no more."""
        assert self.workspace is not None
        self.workspace = replace(self.workspace, shares=())

    def cut(self) -> None:
        """All ways to the workspace break."""
        for stream in self.streams:
            stream.socket.close()
        self.streams.clear()

    async def find_session(self, session_hash: bytes) -> User | None:
        return self.sessions.get(session_hash)

    async def find_workspace(self, owner: str, name: str) -> Node | None:
        return self.workspace if (owner, name) == ("ann", "dev") else None

    async def find_workspace_by_id(self, node_id: UUID) -> Node | None:
        return self.workspace

    def note_opened(self, viewer: User, workspace: Node) -> None:
        self.noted.append((viewer.name, workspace.name))

    def visiting(self, viewer: User, workspace: Node) -> AbstractContextManager[None]:
        return self.visits.during(viewer, workspace)

    async def open_terminal(self, workspace: Node) -> trio.SocketStream:
        if self.is_offline:
            raise UserError("ann/dev is not connected", code="offline")
        stream = await trio.open_tcp_stream(*self.node_api)
        self.streams.append(stream)
        await stream.send_all(encode(TerminalRequest()))
        line = b""
        while not line.endswith(b"\n"):
            line += await stream.receive_some(1)
        parse_dial_reply(line)
        return stream

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        stream.socket.close()

    def keep(self, workspace: Node) -> None:
        """Nobody leaves it here."""

    def describe_path(self, workspace: Node) -> str:
        return self.path

    def terminal_problem(self) -> Problem | None:
        return self.problem

    # What signing in asks

    async def sign_in(self, token: str, source: str) -> NewSession | str:
        return NewSession(ANNS, 3600.0) if token == "cdrs_ann" else "This token is unknown."

    async def sign_out(self, session_hash: bytes, source: str) -> None:
        del self.sessions[session_hash]

    def unix_now(self) -> float:
        return NOW


@dataclass
class World:
    """A site that listens."""

    server: Server
    port: int
    counters: Counters

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cookie(self, session_hash: bytes = ANNS) -> str:
        return f"{SESSION_COOKIES[0]}={make_pass(KEY, '', session_hash, NOW)}"


@asynccontextmanager
async def world(home: Path, *, is_on: bool = True, more: tuple[BaseRoute, ...] = ()) -> AsyncIterator[World]:
    me = pwd.getpwuid(os.getuid())
    server, counters = Server(), Counters()
    service = TerminalService(Account(me.pw_name, me.pw_uid, me.pw_gid, str(home), "/bin/sh"), counters)

    async def serve(stream: trio.SocketStream, rest: bytes, caller: object, grace: float) -> None:
        await service.serve(stream, rest, "the server", grace)

    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        api = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.node_api = api[0].socket.getsockname()[:2]
        nursery.start_soon(partial(serve_anybody, api, terminal=serve if is_on else None, peer=SERVER))
        (front, *_) = await open_tcp_listeners(0, host="127.0.0.1")
        port = front.socket.getsockname()[1]
        sign_in = SignIn(server, ServerUrl("http", "127.0.0.1", port), KEY)
        site = TerminalSite(server, sign_in, key=KEY, rng=os.urandom, counters=counters)
        nursery.start_soon(site.run)
        app = Starlette(routes=[*site.routes(), *more])
        await nursery.start(partial(serve_http, derp=refuse_derp), [front], app)
        yield World(server, port, counters)
        server.cut()
        nursery.cancel_scope.cancel()
