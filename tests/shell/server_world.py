"""A whole server on loopback, and nodes that join it, for the shell tests."""

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import trio

from coderd.api.io.client import ApiClient
from coderd.api.io.machine import enrol_device
from coderd.config.apps import AppOptions
from coderd.config.server import ServerConfig
from coderd.config.url import parse_server_url
from coderd.coordination.io.coordination_client import CoordinationClient
from coderd.coordination.server_state import ServerState
from coderd.model.addresses import AddrPort
from coderd.model.keys import DiscoPrivate, NodePrivate
from coderd.model.netmap import NetMap, Peer
from coderd.model.reachability import NodeUpdate
from coderd.server.reloads import Reloads
from coderd.server.run import Started, run_server

T = TypeVar("T")
ANYWHERE: AddrPort = ("127.0.0.1", 0)


@dataclass
class World:
    """A running server."""

    config: ServerConfig
    started: Started
    stop: trio.Event
    reloads: Reloads = field(default_factory=Reloads)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.started.http_address[1]}"

    @property
    def admin_token(self) -> str:
        return (self.config.state_dir / "admin-token").read_text("ascii").strip()

    @property
    def admin(self) -> ApiClient:
        return ApiClient(self.url, self.admin_token)

    async def add_user(self, name: str) -> str:
        """A new user's session token."""
        created = await in_thread(lambda: self.admin.create_user(name))
        return created.token

    async def add_workspace(self, name: str, session: str | None = None) -> str:
        """A new workspace's token."""
        client = ApiClient(self.url, session or self.admin_token)
        created = await in_thread(lambda: client.create_workspace(name))
        return created.token

    async def enrol(self, key: NodePrivate, session: str | None = None) -> str:
        """A new device's token."""
        token = session or self.admin_token
        return (await enrol_device(self.url, token, name="laptop", node_key=key.public())).token

    async def ask(self, method: str, path: str, token: str = "", **options: object) -> httpx.Response:
        """One raw request."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=5) as client:
            return await client.request(method, path, **options)  # type: ignore[arg-type]


@dataclass
class JoinedNode:
    """A node's coordination link and what it has heard."""

    token: str
    key: NodePrivate = field(default_factory=lambda: NodePrivate.generate(os.urandom))
    generation: int = field(default_factory=lambda: int.from_bytes(os.urandom(8), "big"))
    port: int = 41641
    capabilities: tuple[str, ...] = ()
    netmap: NetMap | None = None
    states: list[ServerState] = field(default_factory=list)
    n_netmaps: int = 0
    resume_token: str | None = None
    _news: trio.Event = field(default_factory=trio.Event)

    def client(self, url: str, tls: ssl.SSLContext | None = None) -> CoordinationClient:
        client = CoordinationClient(
            url,
            self.token,
            node_key=self.key,
            disco_key=DiscoPrivate.generate(os.urandom).public(),
            generation=self.generation,
            rng=os.urandom,
            capabilities=self.capabilities,
            resume_token=self.resume_token,
            on_netmap=self._take_netmap,
            on_state=self._take_state,
            tls=tls,
        )
        client.update(NodeUpdate(999, ((("192.0.2.1", self.port), 0),), {999: 0.01}))
        return client

    async def until(self, condition: Callable[["JoinedNode"], bool], *, patience: float = 15) -> None:
        """Waits until something heard makes the condition true."""
        with trio.fail_after(patience):
            while not condition(self):
                self._news = trio.Event()
                await self._news.wait()

    @property
    def peers(self) -> dict[str, Peer]:
        return {peer.name: peer for peer in self.netmap.peers.values()} if self.netmap else {}

    @property
    def is_connected(self) -> bool:
        return bool(self.states) and self.states[-1].connected

    def sees(self, name: str) -> bool:
        return name in self.peers and self.peers[name].online

    def _take_netmap(self, netmap: NetMap) -> None:
        self.netmap = netmap
        self.n_netmaps += 1
        self._news.set()

    def _take_state(self, state: ServerState) -> None:
        self.states.append(state)
        self._news.set()


def config(directory: Path, **changes: object) -> ServerConfig:
    options: dict[str, object] = {
        "access_url": parse_server_url("http://server.example:3000"),
        "http_address": ANYWHERE,
        "stun_addresses": (ANYWHERE, ANYWHERE),
        "state_dir": directory / "state",
        "apps": AppOptions(has_path_apps=False),
    }
    return ServerConfig(**{**options, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def serving(directory: Path, **changes: object) -> AsyncIterator[World]:
    """A server for as long as the block lasts; setting ``stop`` inside ends it cleanly."""
    options, stop, reloads = config(directory, **changes), trio.Event(), Reloads()

    async def run(task_status: trio.TaskStatus[Started]) -> None:
        await run_server(options, stop=stop, reloads=reloads, task_status=task_status)

    async with trio.open_nursery() as nursery:
        started: Started = await nursery.start(run)
        yield World(options, started, stop, reloads)
        nursery.cancel_scope.cancel()


async def in_thread(question: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(question)
