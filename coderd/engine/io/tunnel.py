"""The one shell around a ``Node``: its sockets, relay links, network watcher and TUN, and its answers.

The node decides, the shell executes. Calls are synchronous and end in ``Driver.drain``, so each takes effect
before it returns. The node's commands are carried out here (``_carry_out``), or handed to the tunnel's owner.
"""

import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import structlog
import trio

from coderd.engine.commands import (
    CloseSockets,
    Command,
    ListenAt,
    OpenSockets,
    OwnerCommand,
    ProbeHttps,
    Redial,
    ResolveRelays,
    SaveMark,
    SecretReceived,
    TunnelEvent,
)
from coderd.engine.handshake_failures import handshake_failures
from coderd.engine.io.answers import Answers, Pong
from coderd.engine.io.driver import Driver
from coderd.engine.io.network_feed import NetworkFeed
from coderd.engine.io.proofs import Proofs
from coderd.engine.io.relay_feed import RelayFeed
from coderd.engine.io.relay_hosts import RelayHosts, Resolved
from coderd.engine.node import Node
from coderd.magicsock import NetcheckDone, PathChanged, PingReply, PortOrder
from coderd.magicsock.io.relays import RelayInfo, RelayLinks
from coderd.magicsock.io.sockets import UdpSockets
from coderd.metrics import Counters
from coderd.model.addresses import AddrPort
from coderd.model.derpmap import DerpMap, DerpRegion
from coderd.model.errors import UserError
from coderd.model.keys import DiscoPublic, NodePrivate, NodePublic
from coderd.model.netmap import NetMap, Peer
from coderd.model.paths import PathInfo, Pin
from coderd.model.ports import NO_PORTS, PortSet
from coderd.model.reachability import PeerPath
from coderd.model.transport import SocketId
from coderd.netcheck import HostAddresses, Report
from coderd.netcheck.io import https_latency
from coderd.packetfilter import PacketFilter
from coderd.packetfilter.io import ephemeral_ports
from coderd.tun.io.device import TunDevice
from coderd.wireguard import PeerStatus

INTERFACE_GONE = "interface_gone"
"""Code of the error that no other identity could mend either: the process has to start again."""

OnCommand: TypeAlias = Callable[[OwnerCommand], None]

log = structlog.get_logger()


class Tunnel:
    """The sockets, relay links, watchers and TUN of one ``Node``.

    Args:
        node_key: this identity's key.
        tun: the opened device; it outlives the tunnel.
        mtu: of the tunnel, in bytes.
        listen_port: preferred UDP port, None for 41641 or any.
        tai64n_mark: no handshake before this start had a later timestamp; None for none.
        plays_birthday: whether random ports may cost hundreds of sockets and pings.

    Attributes:
        counters: of everything in the tunnel.
        resolved: addresses of the relays' host names.
    """

    def __init__(
        self,
        node_key: NodePrivate,
        tun: TunDevice,
        *,
        mtu: int,
        listen_port: int | None,
        tai64n_mark: bytes | None,
        plays_birthday: bool = False,
    ) -> None:
        self.counters: Counters = Counter()
        self.resolved: Resolved = {}
        self._interface = tun.name
        self._on_command: OnCommand = _ignore
        self._answers = Answers()
        self._nursery: trio.Nursery | None = None
        self._sockets = _open_sockets(listen_port, self.counters)
        self._node = Node(
            node_key,
            PacketFilter(counters=self.counters, ephemeral=ephemeral_ports()),
            rng=os.urandom,
            now=trio.current_time(),
            mtu=mtu,
            counters=self.counters,
            uso=tun.offloads.uso,
            tai64n_mark=tai64n_mark,
            plays_birthday=plays_birthday,
        )
        self._links = RelayLinks(node_key, counters=self.counters, rng=os.urandom)
        self._driver = Driver(
            self._node,
            tun,
            self._sockets,
            self._links,
            on_flushed=self._carry_out_all,
            counters=self.counters,
        )
        self._network = NetworkFeed(self._node, self._sockets, self._driver.drain, interface=tun.name)
        self._relay_hosts = RelayHosts(self._set_relays)
        self._proofs = Proofs(self._node.secrets, self._ask_secret)

    async def run(
        self,
        on_command: OnCommand,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Carries packets until cancelled. Raises UserError if the interface is deleted under us.

        Args:
            on_command: carries out the node's commands to its owner; called within a drain, must not wait.
            task_status: trio's, started once packets are carried.
        """
        self._on_command = on_command
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._node.up(trio.current_time(), time.time())
                await nursery.start(self._driver.run)
                nursery.start_soon(self._links.run, RelayFeed(self._node, self._driver.drain))
                nursery.start_soon(self._network.run)
                nursery.start_soon(self._relay_hosts.run)
                self._driver.drain()
                task_status.started()
        except BaseExceptionGroup as group:
            if group.subgroup(_is_interface_gone) is None:
                raise
            raise _interface_gone(self._interface) from None
        finally:
            self._nursery = None
            self.close()
            if (mark := self._node.tai64n_mark) is not None:
                # At a known end the last timestamp itself, which is not an hour ahead.
                on_command(SaveMark(mark))

    def close(self) -> None:
        """Closes the sockets; ``run`` does so itself at its end."""
        self._sockets.close()

    # Commands

    def set_netmap(
        self, netmap: NetMap, accepted: PortSet = NO_PORTS, *, is_workspace: bool = False
    ) -> NetMap:
        """Makes the peers and relays those of a map. Returns the map in force; see ``Node.set_netmap``."""
        now, unix_now = trio.current_time(), time.time()
        self._node.set_netmap(netmap, accepted, is_workspace=is_workspace, now=now, unix_now=unix_now)
        self._driver.drain()
        return self._node.netmap or netmap

    def accept(self, accepted: PortSet, *, is_workspace: bool = False) -> None:
        """Changes what peers may begin with this node; see ``Node.accept``."""
        self._node.accept(accepted, is_workspace=is_workspace, now=trio.current_time())
        self._driver.drain()

    @contextmanager
    def pinned(self, peer: NodePublic, path: Pin) -> Iterator[None]:
        """Keeps what is sent to a peer on one kind of path meanwhile; of several pins the first counts."""
        self._node.pin(peer, path, trio.current_time())
        self._driver.drain()
        try:
            yield
        finally:
            self._node.unpin(peer, path, trio.current_time())
            self._driver.drain()

    async def ping(self, peer: NodePublic, timeout: float) -> Pong | None:
        """Pings by the path in use; returns None after ``timeout`` seconds without an answer."""
        token = self._node.ping(peer, trio.current_time())
        return await self._answers.pong(token, self._driver.drain, timeout)

    def rebind(self) -> None:
        """Forgets all trust in paths and measures anew, as after a change of network."""
        self._node.rebind(trio.current_time())
        self._driver.drain()

    def check(self) -> None:
        """Measures the network anew: a full netcheck."""
        self._node.check(trio.current_time())
        self._driver.drain()

    async def netcheck(self, timeout: float, *, max_age: float = 0.0) -> Report | None:
        """Returns a report begun at most ``max_age`` seconds ago; None if ``timeout`` seconds bring none."""
        oldest = trio.current_time() - max_age
        return await self._answers.report(lambda: self.report, self.check, oldest, timeout)

    def set_server_connected(self, is_connected: bool) -> None:
        """Says whether the server is there to tell peers of a new home."""
        self._node.set_server_connected(is_connected)

    def resolve_relays(self) -> None:
        """Asks for the relays' addresses again: the resolver may be another."""
        self._relay_hosts.refresh()

    def break_relays(self) -> None:
        """Cuts every relay link; they are dialled again."""
        self._links.break_all()

    async def proves(self, peer: Peer, shown: str) -> bool:
        """Returns whether a connection that shows this comes by way of a peer's daemon; see ``Proofs``."""
        return await self._proofs.proves(peer, shown)

    # Looking

    @property
    def disco_key(self) -> DiscoPublic:
        """This start's disco key."""
        return self._node.disco_key

    @property
    def generation(self) -> int:
        """This start's random number."""
        return self._node.generation

    def secret_for(self, peer: NodePublic) -> str:
        """Returns in hex what a connection from this node shows at a peer's ports 3 and 4."""
        return self._node.secrets.ours(peer).hex()

    def path(self, peer: NodePublic) -> PathInfo:
        """Returns how a peer is reached now, and the bytes moved each way by kind of path."""
        return self._node.path(peer)

    def paths(self) -> Iterator[PeerPath]:
        """Yields how each peer is reached now, and whether it is used."""
        return self._node.paths(trio.current_time())

    def handshake_failures(self) -> dict[str, int]:
        """Returns how many handshakes have failed since the start, by cause."""
        return handshake_failures(self.counters)

    def wireguard(self, peer: NodePublic) -> PeerStatus | None:
        """Returns WireGuard's view of a peer; None for a key that is no peer's."""
        return self._node.wireguard(peer, trio.current_time())

    @property
    def report(self) -> Report | None:
        """What the last finished netcheck found."""
        return self._node.report

    @property
    def home_region(self) -> int:
        """The relay region at which this node listens; 0 while unknown."""
        return self._node.home_region

    @property
    def is_relay_connected(self) -> bool:
        """Whether the link to the home relay is up."""
        return self._node.is_relay_connected

    @property
    def relays(self) -> tuple[RelayInfo, ...]:
        """The relays that are connected or dialled, and how."""
        return self._links.infos()

    def is_narrow(self, peer: NodePublic) -> bool:
        """Returns whether a peer answers small datagrams directly, and none of the tunnel's size."""
        return self._node.has_mtu_black_hole(peer, trio.current_time())

    @property
    def port_order(self) -> PortOrder:
        """How this node's NAT chooses ports, as far as that was found out."""
        return self._node.port_order(trio.current_time())

    @property
    def here(self) -> HostAddresses:
        """Returns this host's addresses."""
        return self._network.here

    @property
    def has_ipv6_socket(self) -> bool:
        """Whether this host could bind an IPv6 port."""
        return self._sockets.v6_port is not None

    @property
    def endpoints(self) -> tuple[AddrPort, ...]:
        """Where this node may be reached directly."""
        return self._node.endpoints

    @property
    def udp_port(self) -> int:
        """The bound UDP port."""
        return self._sockets.v4_port or self._sockets.v6_port or 0

    # What happened

    def _set_relays(self, derp_map: DerpMap, resolved: Mapping[str, tuple[str, ...]]) -> None:
        self.resolved = resolved
        self._links.set_derp_map(derp_map)
        self._node.set_relays(derp_map, resolved, trio.current_time())
        self._driver.drain()

    def _ask_secret(self, peer: NodePublic) -> None:
        self._node.ask_secret(peer, trio.current_time(), time.time())
        self._driver.drain()

    # What the node asks for

    def _carry_out_all(self) -> bool:
        """Carries out what the node has asked for.

        Returns whether there was anything: that may be news to the node.
        """
        n_done = 0
        while (command := self._node.poll_command()) is not None:
            self._carry_out(command)
            n_done += 1
        return n_done > 0

    def _carry_out(self, command: Command) -> None:
        match command:
            case TunnelEvent():
                log.debug(command.name, peer=command.peer)
            case ResolveRelays():
                self._relay_hosts.set_derp_map(command.derp_map)
            case ListenAt():
                self._links.set_home(command.region)
            case OpenSockets():
                self._open_spare(command.sockets)
            case CloseSockets():
                self._close_spare(command.sockets)
            case ProbeHttps():
                if self._nursery is not None:
                    self._nursery.start_soon(self._measure_https, command.region)
            case SecretReceived():
                self._proofs.handle_told()
            case PingReply():
                self._answers.handle_reply(command)
            case NetcheckDone():
                self._answers.handle_netcheck()
            case Redial():
                self._redial(command)
            case PathChanged():
                log.info("path changed", peer=command.peer.short, kind=command.path.kind.value)
                self._on_command(command)
            case _:
                self._on_command(command)

    def _redial(self, command: Redial) -> None:
        if command.slept:
            log.info("slept", seconds=round(command.slept))
        else:
            log.info("network changed")
        self._links.break_all()
        self._on_command(command)

    def _open_spare(self, numbers: tuple[SocketId, ...]) -> None:
        opened = []
        for number in numbers:
            if self._nursery is not None and (sock := self._sockets.open_spare(number)) is not None:
                self._driver.read_also(sock)
                opened.append(number)
        self._node.handle_sockets_opened(opened, trio.current_time())

    def _close_spare(self, numbers: tuple[SocketId, ...]) -> None:
        for number in numbers:
            if (sock := self._sockets.spare(number)) is not None:
                self._driver.stop_reading(sock)
                self._sockets.close_spare(number)

    async def _measure_https(self, region: DerpRegion) -> None:
        latency = await https_latency(region)
        self._node.handle_https_latency(region.region_id, latency, trio.current_time())
        self._driver.drain()


def _ignore(command: OwnerCommand) -> None:
    """Does nothing: the tunnel does not run yet."""


def _open_sockets(listen_port: int | None, counters: Counters) -> UdpSockets:
    try:
        return UdpSockets.open(listen_port, counters=counters)
    except OSError as error:
        raise UserError(
            f"no UDP socket can be opened: {error.strerror or error}",
            hint="Choose another port with --listen-port, or leave it out.",
            code="no_udp",
        ) from None


def _is_interface_gone(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EBADFD


def _interface_gone(name: str) -> UserError:
    return UserError(
        f"the network interface {name} was deleted while the daemon used it",
        hint="Start the daemon again: it makes the interface anew.",
        code=INTERFACE_GONE,
    )
