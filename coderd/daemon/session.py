"""One identity joined to its network: what the server says becomes peers, addresses, routes and services.

The coordination client calls ``_set_netmap`` whenever the server has said something new. WireGuard and the paths learn of
it at once; what needs the kernel or DNS (address, routes, relay names) is done by ``_apply``, always towards the newest
map. Losing the server changes nothing here: the map stays, and so does the tunnel.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Interface, IPv6Network, ip_address

import structlog
import trio

from coderd.control.messages import PathWish
from coderd.coordination.client import NodeUpdate, ServerState, decode_netmap, encode_netmap
from coderd.coordination.io.client import CoordinationClient
from coderd.daemon.config import NodeConfig
from coderd.daemon.state import StateStore
from coderd.daemon.tunnel import Tunnel
from coderd.engine.io.node_api import serve_node_api
from coderd.model.addresses import PORT_NODE_API, PORT_SPEEDTEST
from coderd.model.derpmap import DerpMap
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NetMap, NodeKind, Peer
from coderd.speedtest.io.server import serve_speedtest
from coderd.tun.io.device import TunDevice
from coderd.tun.io.router import Router

LOST_PEER_TIMEOUT = 900.0
"""Seconds after its last handshake that a peer lost by the server is kept."""
PRUNE_INTERVAL = 60.0
GOODBYE_TIMEOUT = 1.0
"""Seconds that leaving may take; the server notices a broken connection soon enough."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is to which server."""

    url: str
    token: str = field(repr=False)
    node_key: NodePrivate = field(repr=False)


class Session:
    """Runs one identity until cancelled, or until the server refuses it.

    Args:
        identity: whom to be.
        tun: the opened device.
        config: the node's options.
        store: remembers the NetMap and the resume token.
    """

    def __init__(self, identity: Identity, tun: TunDevice, config: NodeConfig, store: StateStore) -> None:
        self.identity = identity
        self.netmap: NetMap | None = None
        self.joined = trio.Event()
        """Set when the first map from the server is in force: address, routes and peers are there."""
        self.server_state = ServerState(connected=False, reason="not yet connected")
        self.server_state_at = trio.current_time()
        self._config = config
        self._store = store
        self._interface = tun.name
        self._router = Router(tun.name)
        self._changed = trio.Event()
        self._address: IPv6Address | None = None
        self._derp_map: DerpMap | None = None
        self._nursery: trio.Nursery | None = None
        self.tunnel = Tunnel(
            identity.node_key,
            tun,
            mtu=config.mtu,
            listen_port=config.listen_port,
            on_update=self._update_server,
        )
        last = decode_netmap(bytes(store.current.netmap), identity.url)
        self._client = CoordinationClient(
            identity.url,
            identity.token,
            node_key=identity.node_key,
            disco_key=self.tunnel.disco_key,
            generation=self.tunnel.generation,
            rng=os.urandom,
            netmap=last,
            resume_token=store.current.resume_token or None,
            on_netmap=self._set_netmap,
            on_state=self._set_server_state,
        )
        self._last_netmap = last

    async def run(self) -> None:
        """Joins and stays. Raises UserError (in a group) when the server refuses the identity or replaces it."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.tunnel.run)
            if self._last_netmap is not None:
                self._set_netmap(self._last_netmap)
            nursery.start_soon(self._apply)
            nursery.start_soon(self._prune_lost_peers)
            nursery.start_soon(self._client.run)

    async def leave(self) -> None:
        """Tells the server that we go, so that peers drop us at once. Never takes longer than a second."""
        with trio.move_on_after(GOODBYE_TIMEOUT, shield=True):
            await self._client.goodbye()

    def break_server(self) -> None:
        """Cuts the connection to the server; it is dialled again."""
        self._client.break_connection()

    def find(self, name: str) -> list[Peer]:
        """Peers that a person may mean by ``name``."""
        return self.netmap.find(name) if self.netmap is not None else []

    def is_absent(self, name: str) -> bool:
        """Whether ``name`` may mean somebody whom this node may meet, but who is not connected."""
        absent = self.netmap.absent.values() if self.netmap is not None else ()
        return any(name in (node.name, node.name.partition("/")[2]) for node in absent)

    # What the server says

    def _set_netmap(self, netmap: NetMap) -> None:
        self.netmap = netmap
        self.tunnel.set_netmap(netmap)
        self._store.update(netmap=encode_netmap(netmap))
        self._changed.set()

    def _set_server_state(self, state: ServerState) -> None:
        if state.connected != self.server_state.connected:
            self.server_state_at = trio.current_time()
            log.info("server connected" if state.connected else "server disconnected", reason=state.reason)
        self.server_state = state
        self._changed.set()
        if state.resume_token:
            self._store.update(resume_token=state.resume_token)

    def _update_server(self, update: NodeUpdate) -> None:
        self._client.update(update)

    async def _apply(self) -> None:
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            if self.netmap is not None:
                await self._apply_map(self.netmap)
                if self.server_state.connected:
                    self.joined.set()

    async def _apply_map(self, netmap: NetMap) -> None:
        if netmap.self_node.address != self._address:
            self._address = netmap.self_node.address
            await self._router.configure([IPv6Interface(f"{self._address}/128")], self._config.mtu)
            if netmap.self_node.kind is NodeKind.WORKSPACE:
                await self._start_services(self._address)
        await self._router.set_routes([IPv6Network(peer.address) for peer in netmap.peers.values()])
        if netmap.derp_map != self._derp_map:
            self._derp_map = netmap.derp_map
            self.tunnel.set_derp_map(netmap.derp_map, await resolve_hosts(netmap.derp_map))

    async def _prune_lost_peers(self) -> None:
        while True:
            await trio.sleep(PRUNE_INTERVAL)
            if self.netmap is None:
                continue
            now = trio.current_time()
            peers = self.netmap.peers.values()
            self._client.forget_peers(
                {peer.node_id for peer in peers if not peer.online and not self._is_alive(peer, now)}
            )

    def _is_alive(self, peer: Peer, now: float) -> bool:
        status = self.tunnel.wireguard(peer.node_key)
        at = status.last_handshake_at if status is not None else None
        return at is not None and now - at < LOST_PEER_TIMEOUT

    # What a workspace serves to its peers inside the tunnel

    async def _start_services(self, address: IPv6Address) -> None:
        assert self._nursery is not None
        services: tuple[tuple[int, Callable[[list[trio.SocketListener]], Awaitable[None]]], ...] = (
            (PORT_SPEEDTEST, self._serve_speedtest),
            (PORT_NODE_API, self._serve_node_api),
        )
        for port, serve in services:
            listener = await _listen(str(address), port, self._interface)
            self._nursery.start_soon(serve, [listener])

    async def _serve_speedtest(self, listeners: list[trio.SocketListener]) -> None:
        await serve_speedtest(listeners, self._device_at, self._pin, counters=self.tunnel.counters)

    async def _serve_node_api(self, listeners: list[trio.SocketListener]) -> None:
        await serve_node_api(listeners, self._device_at, counters=self.tunnel.counters)

    def _device_at(self, ip: str) -> Peer | None:
        """The user's device with a tailnet address; WireGuard has already proved the address."""
        if self.netmap is None:
            return None
        address = ip_address(ip.partition("%")[0])
        return next(
            (
                peer
                for peer in self.netmap.peers.values()
                if peer.address == address and peer.kind is NodeKind.DEVICE
            ),
            None,
        )

    @contextmanager
    def _pin(self, peer: Peer, path: PathWish) -> Iterator[None]:
        with self.tunnel.pinned(peer.node_key, path):
            yield


async def resolve_hosts(derp_map: DerpMap) -> dict[str, tuple[str, ...]]:
    """The addresses of every relay and STUN host of the map; a name that does not resolve has none."""
    hosts = {node.host_name for region in derp_map.regions.values() for node in region.nodes}
    resolved: dict[str, tuple[str, ...]] = {}

    async def resolve(host: str) -> None:
        try:
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except OSError as error:
            log.info("relay host does not resolve", error=str(error))
            found = []
        resolved[host] = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))

    async with trio.open_nursery() as nursery:
        for host in hosts:
            nursery.start_soon(resolve, host)
    return resolved


async def _listen(address: str, port: int, interface: str) -> trio.SocketListener:
    """Listens on a tailnet address, on our interface only."""
    sock = trio.socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    await sock.bind((address, port))
    sock.listen(128)
    return trio.SocketListener(sock)
