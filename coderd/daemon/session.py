"""Joins one identity to its network: applies the server's NetMaps to peers, address, routes and services.

The coordination client calls ``_set_netmap`` with each new NetMap. WireGuard and the paths follow at once;
``_apply`` sets the kernel's address and routes, always from the newest map. Losing the connection to the
server changes nothing here: the map stays, and so does the tunnel. A session that ends removes the address
and routes of its identity, ends its services, and cancels the work of others that needs it
(``Session.lifetime``).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from typing import Unpack

import msgspec
import structlog
import trio

from coderd.config.node import NodeConfig
from coderd.config.url import parse_server_url
from coderd.coordination.io.coordination_client import CoordinationClient
from coderd.coordination.reporter import PathReporter
from coderd.coordination.saved_netmap import decode_netmap, encode_netmap
from coderd.coordination.server_state import ServerState
from coderd.daemon.authority import SAVE_INTERVAL, Authority, without_users
from coderd.daemon.diagnosis.survey import FACTS_TIMEOUT, MAX_AGE, Survey, Surveyor, own_facts
from coderd.daemon.hosting import Hosting
from coderd.daemon.services import Services
from coderd.daemon.state import StateChanges, StateStore
from coderd.engine.commands import NetMapChanged, OwnerCommand, Redial, SaveMark, TellServer
from coderd.engine.io.tunnel import Tunnel
from coderd.magicsock import PathChanged
from coderd.model.derpmap import DerpMap
from coderd.model.errors import UserError
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NetMap, NodeKind, Peer
from coderd.model.paths import Pin
from coderd.netcheck import Facts
from coderd.tun.io.router import Router

LOST_PEER_TIMEOUT = 900.0
"""Seconds after its last handshake for which a peer that the server has lost is kept."""
PRUNE_INTERVAL = 60.0
"""Seconds between two searches for peers to drop."""
GOODBYE_TIMEOUT = 1.0
"""Seconds that the goodbye to the server may take; without one the server notices the broken connection."""
CLEANUP_TIMEOUT = 2.0
"""Seconds that removing routes and address from the interface may take."""
SMALL_MAP = 256
"""Nodes in the largest NetMap that is encoded on arrival; a larger one is encoded when the state is written.
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """What this node is to one server: its token, its node key and its kind."""

    url: str
    """URL of the server, with the pin of its certificate, if there is one."""
    token: str = field(repr=False)
    node_key: NodePrivate = field(repr=False)
    kind: NodeKind
    """Kind of this node, by the command that was used on this machine, not by the server."""

    @property
    def origin(self) -> str:
        """URL of the server without the pin: scheme, host and port."""
        return str(parse_server_url(self.url))


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
        self.server_state = ServerState(connected=False, reason="still connecting")
        self.server_state_at = trio.current_time()
        self._config = config
        self._store = store
        self._parts = parts
        self._router = parts.router
        self._changed = trio.Event()
        self._is_unsaved = trio.Event()
        self._reporter = PathReporter(trio.current_time())
        self._is_path_news = trio.Event()
        self._address: IPv6Address | None = None
        self._services: Services | None = None
        self._scope = trio.CancelScope()
        self._lifetimes: set[trio.CancelScope] = set()
        self._nursery: trio.Nursery | None = None
        self.tunnel = parts.tunnel
        self._hosting = Hosting(self.facts, self.tunnel.proves, self._is_cut_off)
        self._surveyor = Surveyor(self.tunnel, identity.url, identity.token, config.mtu)
        self._authority = Authority(
            config.authorised_for,
            heard_at=store.current.authorised_at,
            now=trio.current_time(),
            unix_now=time.time(),
        )
        last = self._saved_netmap()
        if last is not None and self._authority.has_expired(trio.current_time()):
            last = without_users(last)
        self._client = parts.connect(last, self._set_netmap, self._set_server_state)
        self._last_netmap = last
        self._unsaved_map: NetMap | None = None
        """Large NetMap newer than the state's; encoded when that is written, however often it changes."""

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
                self._nursery = nursery
                await nursery.start(self.tunnel.run, self._handle_command)
                if self._last_netmap is not None:
                    self._set_netmap(self._last_netmap)
                nursery.start_soon(self._remember)
                nursery.start_soon(self._apply)
                nursery.start_soon(self._prune_lost_peers)
                nursery.start_soon(self._report_paths)
                nursery.start_soon(self._client.run)
        finally:
            await self._clear_interface()

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

    def _saved_netmap(self) -> NetMap | None:
        """Returns the saved NetMap; None if it is missing, damaged or of another kind of node."""
        netmap = decode_netmap(bytes(self._store.current.netmap), self.identity.url)
        if netmap is not None and netmap.self_node.kind is not self.identity.kind:
            log.warning("saved map of another kind refused", kind=netmap.self_node.kind.value)
            return None
        return netmap

    def _set_netmap(self, netmap: NetMap) -> None:
        """Puts the server's NetMap in force in the tunnel, then takes the one that the tunnel returns."""
        accepted = self._store.current.accepted_ports()
        self._take_netmap(self.tunnel.set_netmap(netmap, accepted, is_workspace=self.is_workspace))

    def _take_netmap(self, netmap: NetMap) -> None:
        """Reviews the services by a NetMap that is in force, saves it, and wakes ``_apply``."""
        _log_presence(self.netmap, netmap)
        self.netmap = self._hosting.netmap = netmap
        if self._services is not None:
            self._services.review()
        if len(netmap.peers) + len(netmap.absent) <= SMALL_MAP:
            self._unsaved_map = None
            self._note(netmap=msgspec.Raw(self._parts.encode(netmap)))
        else:
            self._unsaved_map = netmap
            self._is_unsaved.set()
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

    def _set_server_state(self, state: ServerState) -> None:
        """Takes the new state of the link to the server.

        Where the link came or went, also resolves the relays' names anew.
        """
        if state.connected or self.server_state.connected:
            self._hear_server()
        if state.connected != self.server_state.connected:
            self.server_state_at = trio.current_time()
            log.info("server connected" if state.connected else "server disconnected", reason=state.reason)
            self.tunnel.resolve_relays()
            if state.connected:
                self._reporter.handle_joined(trio.current_time())
                self._is_path_news.set()
        self.server_state = state
        self.tunnel.set_server_connected(state.connected)
        self._changed.set()
        if state.resume_token:
            self._note(resume_token=state.resume_token)

    def _hear_server(self) -> None:
        """Renews the server's authorisations: the server is connected, or was until now."""
        now, unix_now = trio.current_time(), time.time()
        self._authority.hear(now)
        if abs(unix_now - self._store.current.authorised_at) >= SAVE_INTERVAL:
            self._note(authorised_at=self._authority.heard_at(now, unix_now))

    def _note(self, **changes: Unpack[StateChanges]) -> None:
        """Changes fields of the state in memory, and wakes ``_remember`` if that leaves anything to save."""
        if self._store.note(**changes):
            self._is_unsaved.set()

    async def _remember(self) -> None:
        """Saves noted changes in a thread, until cancelled.

        A slow disk therefore delays no packet. A disk that refuses is logged and ends no session.
        """
        while True:
            await self._is_unsaved.wait()
            self._is_unsaved = trio.Event()
            if (netmap := self._unsaved_map) is not None:
                self._unsaved_map = None
                data = await trio.to_thread.run_sync(self._parts.encode, netmap)
                self._store.note(netmap=msgspec.Raw(data))
            try:
                await trio.to_thread.run_sync(self._store.save_newest)
            except UserError as error:
                log.warning("the state cannot be saved", why=error.message)

    def _handle_command(self, command: OwnerCommand) -> None:
        """Executes a command of the tunnel's node that is for the node's owner."""
        match command:
            case TellServer():
                self._client.update(command.update)
            case SaveMark():
                self._note(tai64n_mark=command.mark.hex())
            case NetMapChanged():
                self._take_netmap(command.netmap)
            case Redial():
                self.break_server()
            case PathChanged():
                self._reporter.handle_change(trio.current_time())
                self._is_path_news.set()

    async def _report_paths(self) -> None:
        """Reports to the server how this node reaches its peers, when paths change; see ``PathReporter``."""
        while True:
            with trio.move_on_at(self._reporter.due_at) as waited:
                await self._is_path_news.wait()
            self._is_path_news = trio.Event()
            if waited.cancelled_caught and self.server_state.connected:
                now, tunnel = trio.current_time(), self.tunnel
                if reports := self._reporter.poll(tunnel.paths(), tunnel.handshake_failures(), now):
                    self._client.report(reports)
            elif waited.cancelled_caught:
                self._reporter.postpone(trio.current_time())

    async def _apply(self) -> None:
        """Applies the newest NetMap to the interface after each change, until cancelled.

        Sets ``joined`` if the server is connected then.
        """
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            if self.netmap is not None:
                await self._apply_map(self.netmap)
                if self.server_state.connected:
                    self.joined.set()

    async def _apply_map(self, netmap: NetMap) -> None:
        """Sets the interface's address and its routes to all peers; serves at a new address."""
        if netmap.self_node.address != self._address:
            self._address = netmap.self_node.address
            await self._router.configure([IPv6Interface(f"{self._address}/128")], self._config.mtu)
            await self._serve(self._address)
        await self._router.set_routes([IPv6Network(peer.address) for peer in netmap.peers.values()])

    async def _clear_interface(self) -> None:
        """Removes the session's routes and address from the interface, which outlives the session."""
        if self._address is None:
            return
        with trio.move_on_after(CLEANUP_TIMEOUT, shield=True):
            try:
                await self._router.set_routes([])
                await self._router.configure([], self._config.mtu)
            except (OSError, UserError) as error:
                log.warning(
                    "the interface keeps its settings", interface=self._parts.interface, error=str(error)
                )

    async def _prune_lost_peers(self) -> None:
        """Drops lost peers every ``PRUNE_INTERVAL`` seconds, until cancelled.

        Lost are offline peers without a recent handshake, and users without authorisation.
        """
        while True:
            await trio.sleep(PRUNE_INTERVAL)
            if self.netmap is None:
                continue
            now = trio.current_time()
            self._drop_unauthorised(self.netmap, now)
            peers = self.netmap.peers.values()
            self._client.forget_peers(
                {peer.node_id for peer in peers if not peer.online and not self._is_alive(peer, now)}
            )

    def _drop_unauthorised(self, netmap: NetMap, now: float) -> None:
        """Drops a workspace's users once the server's authorisations have expired.

        The server lists the dropped users again when it is back. While it is connected, authorisations are
        renewed.
        """
        if self.server_state.connected:
            self._hear_server()
        elif self._authority.has_expired(now) and (
            gone := netmap.peers.keys() - without_users(netmap).peers.keys()
        ):
            log.warning("users dropped, not authorised again", n_users=len(gone))
            self._client.forget_peers(gone)

    def _is_alive(self, peer: Peer, now: float) -> bool:
        """Returns whether a peer's last handshake was less than ``LOST_PEER_TIMEOUT`` seconds ago."""
        status = self.tunnel.wireguard(peer.node_key)
        at = status.last_handshake_at if status is not None else None
        return at is not None and now - at < LOST_PEER_TIMEOUT

    # What a workspace serves to its peers inside the tunnel

    async def _serve(self, address: IPv6Address) -> None:
        """Ends the services at the earlier address, and on a workspace starts services at this one."""
        if self._services is not None:
            self._services.end()
            self._services = None
        if self.identity.kind is NodeKind.WORKSPACE:
            assert self._nursery is not None
            services = self._parts.serve(
                address,
                self._parts.interface,
                self._hosting,
                self._pin,
                self._config.terminal,
                self.tunnel.counters,
            )
            await self._nursery.start(services.run)
            self._services = services

    def _is_cut_off(self) -> bool:
        """Returns whether the server is disconnected and its authorisations have expired."""
        return not self.server_state.connected and self._authority.has_expired(trio.current_time())

    @contextmanager
    def _pin(self, peer: Peer, path: Pin) -> Iterator[None]:
        """Keeps sending to a peer to one kind of path while the ``with`` statement's body runs."""
        with self.tunnel.pinned(peer.node_key, path):
            yield


def _log_presence(before: NetMap | None, after: NetMap) -> None:
    """Logs peers that have come online, come back as a new process (another generation), or gone offline."""
    known = before.peers if before is not None else {}
    for node_id in known.keys() | after.peers.keys():
        old, new = known.get(node_id), after.peers.get(node_id)
        if new is not None and new.online:
            if old is None or not old.online or old.generation != new.generation:
                log.info("peer online", peer=new.node_key.short)
        elif old is not None and old.online:
            log.info("peer offline", peer=old.node_key.short, lost=new is not None)
