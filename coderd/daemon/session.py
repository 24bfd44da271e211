"""Joins one identity to its network: applies the server's NetMaps to peers, address, routes and services.

The coordination client calls ``_set_netmap`` with each new NetMap. WireGuard and the paths follow at once;
``_apply`` sets the kernel's address and routes, always from the newest map. Losing the connection to the
server changes nothing here: the map stays, and so does the tunnel. A session that ends removes the address
and routes of its identity, ends its services, and cancels the work of others that needs it
(``Session.lifetime``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address

import structlog
import trio

from coderd.config.node import NodeConfig
from coderd.coordination.io.coordination_client import CoordinationClient
from coderd.coordination.saved_netmap import encode_netmap
from coderd.coordination.server_state import ServerState
from coderd.daemon import presence
from coderd.daemon.diagnosis.survey import FACTS_TIMEOUT, MAX_AGE, Survey, Surveyor, own_facts
from coderd.daemon.hosting import Hosting
from coderd.daemon.identity import Identity
from coderd.daemon.interface import Interface
from coderd.daemon.path_reporting import PathReporting
from coderd.daemon.server_watch import ServerWatch
from coderd.daemon.services import Services
from coderd.daemon.serving import Serving
from coderd.daemon.state import StateStore
from coderd.daemon.state_saver import StateSaver
from coderd.engine.commands import NetMapChanged, OwnerCommand, Redial, SaveMark, TellServer
from coderd.engine.io.tunnel import Tunnel
from coderd.magicsock import PathChanged
from coderd.model.derpmap import DerpMap
from coderd.model.keys import NodePublic
from coderd.model.netmap import NetMap, NodeKind, Peer
from coderd.model.paths import Pin
from coderd.netcheck import Facts
from coderd.tun.io.router import Router

PRUNE_INTERVAL = 60.0
"""Seconds between two searches for peers to drop."""
GOODBYE_TIMEOUT = 1.0
"""Seconds that the goodbye to the server may take; without one the server notices the broken connection."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of a session, which ``opening.open_session`` makes.

    Attributes:
        interface: the name of the TUN device.
        router: sets the interface's addresses and routes.
        tunnel: carries packets.
        connect: makes the link to the server, from the last NetMap and the callbacks for a new NetMap and a
            new ServerState.
        serve: makes the services of a workspace at an address.
        encode: encodes a NetMap for the state file.
    """

    interface: str
    router: Router
    tunnel: Tunnel
    connect: Callable[
        [NetMap | None, Callable[[NetMap], None], Callable[[ServerState], None]], CoordinationClient
    ]
    serve: Callable[..., Services] = Services
    encode: Callable[[NetMap], bytes] = encode_netmap


class SessionOver(Exception):
    """End of a session before the end of work that needs it."""


class Session:
    """Run of one identity until cancelled, or until the server refuses it.

    Args:
        identity: the identity to join as.
        config: the node's options.
        store: the saved state, which also keeps what the session learns.
        parts: what the session works with; see ``opening``.
    """

    def __init__(self, identity: Identity, config: NodeConfig, store: StateStore, parts: Parts) -> None:
        self.identity = identity
        self.netmap: NetMap | None = None
        self.joined = trio.Event()
        """Set once a NetMap is applied while the server is connected: address, routes and peers are there."""
        self.over = trio.Event()
        """Set when the session has ended and closed its tunnel."""
        self.tunnel = parts.tunnel
        self._config = config
        self._store = store
        self._parts = parts
        self._saver = StateSaver(store, parts.encode)
        self._interface = Interface(parts.interface, parts.router, config.mtu)
        self._server = ServerWatch(config.authorised_for, self._saver)
        self._changed = trio.Event()
        self._scope = trio.CancelScope()
        self._lifetimes: set[trio.CancelScope] = set()
        self._hosting = Hosting(self.facts, self.tunnel.proves, self._server.is_cut_off)
        self._serving = Serving(self._hosting, self._make_services if self.is_workspace else None)
        self._surveyor = Surveyor(self.tunnel, identity.url, identity.token, config.mtu)
        last = self._saver.load_netmap(identity)
        self._last_netmap = self._server.authorised(last) if last is not None else None
        self._client = parts.connect(self._last_netmap, self._set_netmap, self._set_server_state)
        self._path_reporting = PathReporting(self.tunnel, self._client.report)

    async def run(self) -> None:
        """Runs the session until ``end``, cancellation or the server's refusal, then closes it.

        Raises:
            UserError: the server refuses the identity; raised in an exception group.
        """
        try:
            with self._scope:
                await self._run()
        finally:
            self.close()

    async def _run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.tunnel.run, self._handle_command)
                if self._last_netmap is not None:
                    self._set_netmap(self._last_netmap)
                nursery.start_soon(self._saver.run)
                nursery.start_soon(self._apply, nursery)
                nursery.start_soon(self._prune_lost_peers)
                nursery.start_soon(self._path_reporting.run, self._server.is_connected)
                nursery.start_soon(self._client.run)
        finally:
            await self._interface.clear()

    def end(self) -> None:
        """Cancels ``run``, which cleans up and sets ``over``."""
        self._scope.cancel()

    def close(self) -> None:
        """Closes the tunnel, cancels the work in ``lifetime`` and sets ``over``.

        May be called where ``run`` was not.
        """
        self.tunnel.close()
        for scope in self._lifetimes:
            scope.cancel()
        self.over.set()

    @contextmanager
    def lifetime(self) -> Iterator[None]:
        """Cancels the body of the ``with`` statement when the session ends before it.

        Raises:
            SessionOver: the session had ended before, or has ended before the body.
        """
        if self.over.is_set():
            raise SessionOver
        with trio.CancelScope() as scope:
            self._lifetimes.add(scope)
            try:
                yield
            finally:
                self._lifetimes.remove(scope)
        if scope.cancelled_caught:
            raise SessionOver

    async def leave(self) -> None:
        """Tells the server that this node leaves, so that peers drop it at once.

        Gives up after ``GOODBYE_TIMEOUT`` seconds.
        """
        with trio.move_on_after(GOODBYE_TIMEOUT, shield=True):
            await self._client.goodbye()

    def break_server(self) -> None:
        """Cuts the connection to the server, which is then dialled again."""
        self._client.break_connection()

    def find(self, name: str) -> list[Peer]:
        """Returns the peers called ``name``, a full name or, for nodes of this node's owner, a bare one."""
        return self.netmap.find(name) if self.netmap is not None else []

    def is_absent(self, name: str) -> bool:
        """Returns whether a name, full or bare, is of a node that may be met and is not connected."""
        return self.netmap is not None and self.netmap.is_absent(name)

    def of_others(self, name: str) -> list[str]:
        """Returns the full names of the nodes, of any owner, that have this bare name, sorted."""
        return self.netmap.of_others(name) if self.netmap is not None else []

    @property
    def mtu(self) -> int:
        """MTU of the tunnel, in bytes."""
        return self._config.mtu

    async def facts(self, peer: Peer | None = None) -> Facts:
        """Returns this node's network as facts, measured at most ``MAX_AGE`` seconds ago.

        Args:
            peer: the peer that the facts are sent to or compared with; None: ``blocked`` and ``narrow`` stay
                False.
        """
        derp_map = self.netmap.derp_map if self.netmap is not None else DerpMap()
        survey = await self.survey(FACTS_TIMEOUT, max_age=MAX_AGE)
        return own_facts(survey, self.tunnel, derp_map, self.mtu, peer)

    async def survey(self, timeout: float, *, max_age: float = 0.0) -> Survey:
        """Returns a full measurement of this node's network, made now or at most ``max_age`` seconds ago.

        Args:
            timeout: seconds that the netcheck may take.
            max_age: seconds for which an earlier measurement is reused.
        """
        derp_map = self.netmap.derp_map if self.netmap is not None else DerpMap()
        return await self._surveyor.survey(derp_map, timeout, max_age=max_age)

    # What the server says

    def _set_netmap(self, netmap: NetMap) -> None:
        """Puts the server's NetMap in force in the tunnel, then takes the one that the tunnel returns."""
        accepted = self._store.current.accepted_ports()
        self._take_netmap(self.tunnel.set_netmap(netmap, accepted, is_workspace=self.is_workspace))

    def _take_netmap(self, netmap: NetMap) -> None:
        """Reviews the services by a NetMap that is in force, saves it, and wakes ``_apply``."""
        _log_presence(self.netmap, netmap)
        self.netmap = netmap
        self._serving.set_netmap(netmap)
        self._saver.note_netmap(netmap)
        self._changed.set()

    def accept_inbound(self) -> None:
        """Lets peers connect to the ports that the state's ``accept_inbound`` names, and to no others."""
        self.tunnel.accept(self._store.current.accepted_ports(), is_workspace=self.is_workspace)

    @property
    def accepts_inbound(self) -> str | None:
        """Ports that peers may connect to; None on a workspace whose server decides for each peer."""
        is_told = (
            self.is_workspace and self.netmap is not None and self.netmap.self_node.kind is NodeKind.WORKSPACE
        )
        return None if is_told else self._store.current.accept_inbound

    @property
    def is_workspace(self) -> bool:
        """Whether this machine is a workspace by the command used on it, whatever the server says."""
        return self.identity.kind is NodeKind.WORKSPACE

    @property
    def server_state(self) -> ServerState:
        """State of the link to the server."""
        return self._server.state

    @property
    def server_state_at(self) -> float:
        """Seconds on trio's clock at which the link to the server came or went last."""
        return self._server.state_at

    def _set_server_state(self, state: ServerState) -> None:
        """Takes the new state of the link to the server.

        Where the link came or went, also resolves the relays' names anew.
        """
        if self._server.set_state(state):
            self.tunnel.resolve_relays()
            if state.connected:
                self._path_reporting.handle_joined()
        self.tunnel.set_server_connected(state.connected)
        self._changed.set()

    def _handle_command(self, command: OwnerCommand) -> None:
        """Executes a command of the tunnel's node that is for the node's owner."""
        match command:
            case TellServer():
                self._client.update(command.update)
            case SaveMark():
                self._saver.note(tai64n_mark=command.mark.hex())
            case NetMapChanged():
                self._take_netmap(command.netmap)
            case Redial():
                self.break_server()
            case PathChanged():
                self._path_reporting.handle_change()

    async def _apply(self, nursery: trio.Nursery) -> None:
        """Applies the newest NetMap to the interface after each change, until cancelled.

        Sets ``joined`` if the server is connected then.
        """
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            if self.netmap is not None:
                await self._apply_map(self.netmap, nursery)
                if self._server.is_connected():
                    self.joined.set()

    async def _apply_map(self, netmap: NetMap, nursery: trio.Nursery) -> None:
        """Sets the interface's address and its routes to all peers; serves at a new address."""
        address = netmap.self_node.address
        if await self._interface.set_address(address):
            await self._serving.move(address, nursery)
        await self._interface.set_routes(netmap.peers.values())

    async def _prune_lost_peers(self) -> None:
        """Drops lost peers every ``PRUNE_INTERVAL`` seconds, until cancelled.

        Lost are offline peers without a recent handshake (``lost_peers``), and users without authorisation.
        """
        while True:
            await trio.sleep(PRUNE_INTERVAL)
            if (netmap := self.netmap) is not None:
                self._client.forget_peers(
                    self._server.unauthorised(netmap)
                    | presence.lost_peers(netmap, self._handshake_at, trio.current_time())
                )

    def _handshake_at(self, node_key: NodePublic) -> float | None:
        """Returns when the last handshake with a peer was, in seconds on trio's clock; None without one."""
        status = self.tunnel.wireguard(node_key)
        return status.last_handshake_at if status is not None else None

    def _make_services(self, address: IPv6Address) -> Services:
        return self._parts.serve(
            address,
            self._parts.interface,
            self._hosting,
            self._pin,
            self._config.terminal,
            self.tunnel.counters,
        )

    @contextmanager
    def _pin(self, peer: Peer, path: Pin) -> Iterator[None]:
        """Keeps sending to a peer to one kind of path while the ``with`` statement's body runs."""
        with self.tunnel.pinned(peer.node_key, path):
            yield


def _log_presence(before: NetMap | None, after: NetMap) -> None:
    """Logs the peers that came online or went offline between two NetMaps."""
    for change in presence.changes(before, after):
        match change:
            case presence.Arrival(peer):
                log.info("peer online", peer=peer.node_key.short)
            case presence.Departure(peer, is_lost):
                log.info("peer offline", peer=peer.node_key.short, lost=is_lost)
