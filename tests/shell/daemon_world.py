"""A node for tests without a network: real state, real Node and Verbs, scripted sessions and tunnels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from coderd.config.node import NodeConfig
from coderd.control.messages import Message
from coderd.coordination.server_state import ServerState
from coderd.daemon.identity import Identity
from coderd.daemon.node import Node
from coderd.daemon.session import SessionOver
from coderd.daemon.state import StateStore
from coderd.engine.io.answers import Pong
from coderd.model.addresses import tailnet_address
from coderd.model.derpmap import DerpMap, DerpRegion
from coderd.model.errors import UserError
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import AbsentNode, NetMap, NodeKind, Peer, SelfNode
from coderd.model.paths import PathInfo, PathKind, Pin

ME = UUID(int=255)
DIRECT = PathInfo(PathKind.DIRECT, ("203.0.113.7", 41641), 0.012, 0.0)
RELAYED = PathInfo(PathKind.RELAY, 999, 0.031, 0.0)


def make_peer(name: str, number: int, *, kind: NodeKind = NodeKind.WORKSPACE, online: bool = True) -> Peer:
    """A peer of the name; the number makes its keys and its id."""
    node_id = UUID(int=number)
    return Peer(
        node_id=node_id,
        kind=kind,
        name=name,
        node_key=NodePublic(bytes([number]) * 32),
        disco_key=DiscoPublic(bytes([number + 100]) * 32),
        address=tailnet_address(node_id),
        home_region=999,
        endpoints=(),
        generation=1,
        online=online,
    )


def make_netmap(
    *peers: Peer, kind: NodeKind = NodeKind.DEVICE, absent: tuple[AbsentNode, ...] = ()
) -> NetMap:
    """A map of one relay region and these peers."""
    me = SelfNode(ME, kind, "ann/laptop", tailnet_address(ME))
    regions = {999: DerpRegion(region_id=999, code="coder", name="coder", nodes=())}
    return NetMap(
        me,
        DerpMap(regions=regions),
        {peer.node_id: peer for peer in peers},
        {node.node_id: node for node in absent},
    )


class FakeTunnel:
    """Answers pings by ``answer``, and remembers how each peer was pinned."""

    def __init__(self) -> None:
        self.answer: Callable[[], Pong | None] = lambda: Pong(DIRECT, 0.012)
        self.pins: list[Pin] = []
        self.path_now = DIRECT

    async def ping(self, peer: NodePublic, timeout: float) -> Pong | None:
        await trio.lowlevel.checkpoint()
        if (pong := self.answer()) is None:
            await trio.sleep(timeout)
        return pong

    @contextmanager
    def pinned(self, peer: NodePublic, path: Pin) -> Iterator[None]:
        self.pins.append(path)
        try:
            yield
        finally:
            self.pins.remove(path)

    def secret_for(self, peer: NodePublic) -> str:
        return "5e" * 32

    def path(self, peer: NodePublic) -> PathInfo:
        return self.path_now


class FakeSession:
    """A session that joins when told to, and ends when told to, or with ``fate``."""

    def __init__(self, identity: Identity, netmap: NetMap | None) -> None:
        self.identity = identity
        self.netmap = netmap
        self.tunnel = FakeTunnel()
        self.server_state = ServerState(connected=True)
        self.joined = trio.Event()
        self.over = trio.Event()
        self.fate: BaseException | None = None
        self.is_slow_to_end = False
        self.log: list[str] = []
        self._end = trio.Event()
        self._scopes: set[trio.CancelScope] = set()

    async def run(self) -> None:
        self.log.append("run")
        try:
            await self._end.wait()
            if self.is_slow_to_end:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
            if self.fate is not None:
                raise BaseExceptionGroup("nursery", [self.fate])
        finally:
            self.close()

    def accept_inbound(self) -> None:
        self.log.append("accept")

    async def leave(self) -> None:
        await trio.sleep(0.1)
        self.log.append("leave")

    def end(self) -> None:
        self._end.set()

    def refuse(self, error: UserError) -> None:
        self.fate = error
        self._end.set()

    def close(self) -> None:
        self.log.append("close")
        for scope in self._scopes:
            scope.cancel()
        self.over.set()

    @contextmanager
    def lifetime(self) -> Iterator[None]:
        if self.over.is_set():
            raise SessionOver
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.remove(scope)
        if scope.cancelled_caught:
            raise SessionOver

    def find(self, name: str) -> list[Peer]:
        return self.netmap.find(name) if self.netmap is not None else []

    def is_absent(self, name: str) -> bool:
        return self.netmap is not None and self.netmap.is_absent(name)

    def of_others(self, name: str) -> list[str]:
        return self.netmap.of_others(name) if self.netmap is not None else []


class World:
    """A node, the sessions that it has opened, and what its callers were told."""

    def __init__(
        self, directory: Path, config: NodeConfig | None = None, netmap: NetMap | None = None
    ) -> None:
        self.store = StateStore(directory)
        self.netmap = netmap
        self.opened: list[Any] = []  # of FakeSession, which a node takes for its Session
        self.refusal: UserError | None = None
        self.joins_at_once = True
        self.said: list[Message] = []
        self.heard = trio.Event()
        self.node = Node(config or NodeConfig(), self.store, "coder0", self._open)  # type: ignore[arg-type]

    def _open(self, identity: Identity) -> FakeSession:
        if self.refusal is not None:
            raise self.refusal
        session = FakeSession(identity, self.netmap)
        if self.joins_at_once:
            session.joined.set()
        self.opened.append(session)
        return session

    def enrol(self, token: str = "cdrd_1", *, is_up: bool = True) -> None:
        self.store.update(url="http://192.0.2.10:3000", device_id="1", device_token=token, is_up=is_up)

    async def emit(self, event: Message) -> None:
        await trio.lowlevel.checkpoint()
        self.said.append(event)
        self.heard.set()
