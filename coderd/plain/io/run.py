"""``coderd wireguard``: a stock WireGuard on the same engine, configured by ``wg``.

No server, no magicsock, no state: what ``wg`` has set lives as long as the process. Interface and socket
exist before the command returns; addresses, routes and the link itself are other people's, and followed.
"""

import errno
import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import closing

import structlog
import trio

from coderd.config.io.log import configure_logging
from coderd.engine.dataplane import DataPlane, PlaneEvent
from coderd.engine.io.clock import BootClock, run_boot_timer
from coderd.engine.io.driver import Driver
from coderd.metrics import Counters
from coderd.model.keys import NodePublic
from coderd.model.transport import DerpTransmit
from coderd.plain.configuration import apply, describe
from coderd.plain.io.background import detach
from coderd.plain.io.removal import wait_removed
from coderd.plain.io.sockets import PlainSockets
from coderd.plain.io.uapi import bound_socket, serve_uapi, socket_path
from coderd.plain.paths import PlainPaths
from coderd.process.ending import ending_signals
from coderd.process.turns import TurnWatch
from coderd.tun.io.device import TunDevice
from coderd.tun.io.link import LinkState, prepare_link, watch_link, watch_routes
from coderd.wireguard import Device, HandshakeCompleted, Unanswered
from coderd.wireguard.uapi import (
    Change,
    ConfigurationError,
    Description,
    Operation,
    Request,
    encode_errno,
    encode_get,
    parse_get,
    parse_set,
)

DEFAULT_MTU = 1420
LOG_LEVELS = {
    "verbose": logging.DEBUG,
    "debug": logging.DEBUG,
    "error": logging.ERROR,
    "silent": logging.CRITICAL + 1,
}
"""Values of LOG_LEVEL, as wireguard-go has them."""

log = structlog.get_logger()


def run_wireguard(interface: str, *, in_foreground: bool, log_level: str = "") -> None:
    """Makes an interface, and returns in the background's stead when it can be configured.

    Args:
        interface: its name.
        in_foreground: whether to stay, until the end.
        log_level: one of ``LOG_LEVELS``, else errors only; to be seen from the background it must be given.

    Raises: UserError if the interface or its socket cannot be made.
    """
    configure_logging(LOG_LEVELS.get(log_level, logging.ERROR))
    tun = TunDevice.open(interface)
    keeps_output = log_level in LOG_LEVELS and log_level != "silent"
    ready = (lambda: None) if in_foreground else detach(keeps_output=keeps_output)
    with closing(tun), bound_socket(tun.name) as listening:
        prepare_link(tun.name, DEFAULT_MTU)
        trio.run(_main, tun, listening, ready, clock=BootClock())


class PlainWireGuard:
    """One interface: its device, its endpoints, its sockets, and the loop between them.

    Args:
        tun: the opened device.
    """

    def __init__(self, tun: TunDevice) -> None:
        self.counters: Counters = Counter()
        self._device = Device(
            rng=os.urandom, now=trio.current_time(), mtu=DEFAULT_MTU, counters=self.counters
        )
        self._paths = PlainPaths(counters=self.counters)
        self._handshakes: dict[NodePublic, float] = {}
        """Wall clock of each peer's last handshake: told, it must not move when the clock is set."""
        self._is_wanted_up = False
        self._is_up = False
        self._sockets = PlainSockets(
            self.counters, on_rebound=self._handle_rebound, on_stale=self._paths.forget_local
        )
        self._plane = DataPlane(self._device, self._paths, uso=tun.offloads.uso, counters=self.counters)
        self._driver = Driver(
            self._plane,
            tun,
            self._sockets,
            _NoLinks(),
            on_flushed=self._handle_events,
            counters=self.counters,
        )

    async def run(self) -> None:
        """Carries packets until cancelled. Raises OSError EBADFD when the interface is deleted."""
        try:
            await self._driver.run()
        finally:
            self._sockets.close()

    def answer(self, request: Request) -> bytes:
        """Carries out one request of ``wg``, all of it or nothing."""
        try:
            if request.operation is Operation.GET:
                parse_get(request.lines)
                return encode_get(self._describe())
            self._apply(parse_set(request.lines, interface_index))
        except ConfigurationError as refusal:
            log.debug("refused a configuration", errno=str(refusal))
            return encode_errno(-refusal.number)
        return encode_errno()

    def handle_link(self, state: LinkState) -> None:
        """Follows the interface: set up or down, or given another MTU, by another program."""
        log.debug("link changed", up=state.is_up, mtu=state.mtu)
        self._device.set_mtu(state.mtu)
        self._is_wanted_up = state.is_up
        if self._is_up and not state.is_up:
            self._is_up = False
            self._device.down(trio.current_time())
            self._sockets.close()
        self._up_if_wanted()
        self._driver.drain()

    def handle_routes_changed(self) -> None:
        """Forgets every sticky source, which may be the wrong address by now.

        The next packet of each peer teaches the right one.
        """
        self._paths.forget_sources()

    def _up_if_wanted(self) -> None:
        """Opens the sockets and takes the device up, if the interface is up and the device is not.

        Stays down if the UDP port cannot be opened; another port, or another change of the link, is another
        try.
        """
        if self._is_up or not self._is_wanted_up:
            return
        try:
            self._sockets.open()
        except OSError as error:
            log.error("the UDP port cannot be opened, so the tunnel stays down", why=error.strerror)
            return
        self._is_up = True
        self._device.up(trio.current_time())

    def _describe(self) -> Description:
        return describe(
            self._device,
            self._paths,
            trio.current_time(),
            listen_port=self._sockets.port,
            fwmark=self._sockets.fwmark,
            handshakes=self._handshakes,
        )

    def _apply(self, change: Change) -> None:
        """The sockets first: only they can fail."""
        old_mark = self._sockets.fwmark
        try:
            self._sockets.configure(change.listen_port, change.fwmark)
        except OSError as error:
            raise ConfigurationError(error.errno or errno.EIO) from None
        if self._sockets.fwmark != old_mark:
            self._paths.forget_sources()
        apply(change, self._device, self._paths, trio.current_time())
        self._up_if_wanted()
        self._handshakes = {
            key: at for key, at in self._handshakes.items() if self._device.allowed_ips(key) is not None
        }
        self._driver.drain()

    def _handle_rebound(self) -> None:
        self._paths.forget_sources()
        self._driver.handle_rebound()

    def _handle_events(self) -> bool:
        """Ends the events of the plane. Returns False: none of them gives it anything to send."""
        while (event := self._plane.poll_event()) is not None:
            self._handle_event(event)
        return False

    def _handle_event(self, event: PlaneEvent) -> None:
        log.debug(type(event).__name__, peer=event.peer.short)
        if isinstance(event, HandshakeCompleted):
            self._handshakes[event.peer] = time.time()
        elif isinstance(event, Unanswered):
            self._paths.forget_source(event.peer)


class _NoLinks:
    """Nothing is ever relayed: ``PlainPaths`` asks for no such thing."""

    def send_nowait(self, transmit: DerpTransmit) -> None:
        """Never called."""
        raise AssertionError("plain paths have no relay")

    @property
    def is_crowded(self) -> bool:
        """Never."""
        return False

    async def wait_room(self) -> None:
        """Never called."""


async def _main(tun: TunDevice, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Runs until a signal comes, or the interface or the socket's file is removed."""
    wireguard = PlainWireGuard(tun)
    try:
        with ending_signals() as signals, TurnWatch(wireguard.counters):
            await _run(wireguard, tun, listening, signals, ready)
    except* OSError as group:
        if group.split(_is_deletion)[1] is not None:
            raise
        log.info("the interface was deleted")
    log.debug("counters", **wireguard.counters)


async def _run(
    wireguard: PlainWireGuard,
    tun: TunDevice,
    listening: socket.socket,
    signals: AsyncIterator[int],
    ready: Callable[[], None],
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(run_boot_timer)
        nursery.start_soon(_stop_on_signal, signals, nursery.cancel_scope)
        nursery.start_soon(_stop_on_removal, tun.name, nursery.cancel_scope)
        nursery.start_soon(_follow_link, wireguard, tun)
        nursery.start_soon(_follow_routes, wireguard)
        nursery.start_soon(wireguard.run)
        nursery.start_soon(serve_uapi, listening, wireguard.answer)
        ready()


async def _stop_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        log.info("stopping", signal=signal.Signals(number).name)
        scope.cancel()


async def _stop_on_removal(interface: str, scope: trio.CancelScope) -> None:
    await wait_removed(socket_path(interface))
    log.info("stopping, as the socket for wg was removed")
    scope.cancel()


async def _follow_link(wireguard: PlainWireGuard, tun: TunDevice) -> None:
    async for state in watch_link(tun):
        wireguard.handle_link(state)


async def _follow_routes(wireguard: PlainWireGuard) -> None:
    async for _ in watch_routes():
        wireguard.handle_routes_changed()


def interface_index(zone: str) -> int | None:
    """Returns the number of an interface from its name or number, or None if there is no such interface."""
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        pass
    if not (zone.isascii() and zone.isdigit() and len(zone) < 10):
        return None
    try:
        socket.if_indextoname(int(zone))
    except OSError:
        return None
    return int(zone)


def _is_deletion(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EBADFD
