"""``DerpLink``: one connection to one region's relay."""

from collections.abc import Sequence
from typing import Final, Protocol, Self

import structlog
import trio

from coderd.derp.client import DerpClient, Health, Packets
from coderd.derp.dial_plan import DialPlan, dial_plans, upgrade_request
from coderd.derp.frame import PeerGone
from coderd.derp.io.dial import dial_node
from coderd.http.dialer import read_response_head
from coderd.metrics import Counters
from coderd.model import RandomBytes
from coderd.model.derpmap import DerpRegion
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, NodePublic, ServerPublic

CONNECT_TIMEOUT: Final = 10.0
"""For everything: name, TCP, TLS, upgrade and the relay's admission."""
READ_SIZE: Final = 256 * 1024
WRITE_AHEAD: Final = 64 * 1024
UPGRADE_ATTEMPTS: Final = 2
USER_TIMEOUT_MS: Final = 5000
_TCP_USER_TIMEOUT: Final = 18

_log = structlog.get_logger(__name__)


class DerpHandler(Protocol):
    """What a link's owner does with what arrives. Called in order, from one task; must not wait."""

    def on_packets(self, sender: NodePublic, packets: list[bytes]) -> None:
        """Packets of one sender that arrived in one piece, in order."""

    def on_peer_gone(self, key: NodePublic, reason: int) -> None:
        """A peer has left this region, or was never there (``PeerGoneReason``)."""


class DerpLink:
    """One connection to one region's relay, admitted.

    Attributes:
        region: the region as it was when dialled.
        server_key: the relay's key.
    """

    def __init__(self, region: DerpRegion, stream: trio.abc.Stream, client: DerpClient) -> None:
        self.region = region
        self._stream = stream
        self._client = client
        self._woken = trio.Event()
        self._why = ""

    @classmethod
    async def connect(
        cls,
        region: DerpRegion,
        private: NodePrivate,
        *,
        is_home: bool,
        rng: RandomBytes,
        counters: Counters | None = None,
    ) -> Self:
        """Dials the region's nodes in order and returns once a relay has admitted this node.

        Raises OSError where no node can be reached, refuses us, or is no relay; the first node's failure is told.
        """
        failures: list[OSError] = []
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                for plan in dial_plans(region):
                    client = DerpClient(
                        private, is_home=is_home, rng=rng, now=trio.current_time(), counters=counters
                    )
                    try:
                        return cls(region, await _open(plan, region, client), client)
                    except OSError as failure:
                        failures.append(failure)
        except trio.TooSlowError:
            failures.append(
                TimeoutError(f"relay {region.code} did not answer within {CONNECT_TIMEOUT:.0f} s")
            )
        raise failures[0] if failures else OSError(f"region {region.code} has no relay")

    @property
    def server_key(self) -> ServerPublic | None:
        """The relay's key."""
        return self._client.server_key

    def send_nowait(self, to: NodePublic, packets: Sequence[bytes]) -> None:
        """Queues packets, all to leave in one write; the oldest are dropped and counted where too many wait."""
        self._client.send(to, packets, trio.current_time())
        self._woken.set()

    def note_preferred(self, home: bool) -> None:
        """Tells the relay whether it is this node's home."""
        self._client.note_preferred(home)
        self._woken.set()

    async def run(self, handler: DerpHandler) -> str:
        """Moves packets until the link breaks, and returns why it did. Leaves the stream closed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                nursery.start_soon(self._watch, nursery.cancel_scope)
                await self._read(handler)
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(self._stream)
        return self._why or "closed"

    async def aclose(self) -> None:
        """Closes the connection; ``run`` then returns."""
        await trio.aclose_forcefully(self._stream)
        self._woken.set()

    async def _read(self, handler: DerpHandler) -> None:
        try:
            self._dispatch(handler)
            while data := await self._stream.receive_some(READ_SIZE):
                self._client.handle_data(data, trio.current_time())
                self._dispatch(handler)
                self._woken.set()
            self._break("the relay closed the connection")
        except (MalformedPacket, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._break(_reason(error))

    def _dispatch(self, handler: DerpHandler) -> None:
        while (event := self._client.poll_event()) is not None:
            if isinstance(event, Packets):
                handler.on_packets(event.sender, event.packets)
            elif isinstance(event, PeerGone):
                handler.on_peer_gone(event.key, event.reason)
            elif isinstance(event, Health) and event.problem:
                _log.info("derp.health", region=self.region.code, problem=event.problem)

    async def _write(self, everything: trio.CancelScope) -> None:
        """Writes what waits, all of it in one piece."""
        try:
            while True:
                data = self._client.poll_transmit()
                if data is None:
                    self._woken = trio.Event()
                    await self._woken.wait()
                else:
                    await self._stream.send_all(data)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._break(_reason(error))
            everything.cancel()

    async def _watch(self, everything: trio.CancelScope) -> None:
        """Asks a silent relay whether it lives. Apart from the writer, which a dead relay would block."""
        try:
            while True:
                deadline = self._client.poll_timeout()
                await trio.sleep_until(deadline.when)
                self._client.handle_timeout(trio.current_time())
                self._woken.set()
        except MalformedPacket as error:
            self._break(_reason(error))
            everything.cancel()

    def _break(self, why: str) -> None:
        """The first reason is the true one."""
        self._why = self._why or why


async def _open(plan: DialPlan, region: DerpRegion, client: DerpClient) -> trio.abc.Stream:
    """Reaches a node and lets the client greet it until it is admitted. Raises OSError."""
    request = upgrade_request(plan, ideal_node=region.nodes[0].name)
    for remaining in reversed(range(UPGRADE_ATTEMPTS)):
        stream = await dial_node(plan)
        _tune(stream)
        try:
            await stream.send_all(request)
            status, leftover = await read_response_head(stream)
            if status == 101:
                await _greet(stream, client, leftover)
                return stream
            if status != 426 or not remaining:
                raise ConnectionRefusedError(f"{plan.host_header} is no relay: it answers {status}")
        except (MalformedPacket, trio.BrokenResourceError) as error:
            await trio.aclose_forcefully(stream)
            raise ConnectionResetError(f"{plan.host_header}: {_reason(error)}") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        # The connection had been used for something else on its way; a new one has not.
        await trio.aclose_forcefully(stream)
    raise AssertionError("the last attempt returns or raises")


async def _greet(stream: trio.abc.Stream, client: DerpClient, leftover: bytes) -> None:
    """Exchanges ServerKey, ClientInfo and ServerInfo. Raises OSError, MalformedPacket."""
    data: bytes | bytearray = leftover
    while True:
        client.handle_data(data, trio.current_time())
        if client.server_info is not None:
            return
        if (answer := client.poll_transmit()) is not None:
            await stream.send_all(answer)
        data = await stream.receive_some(READ_SIZE)
        if not data:
            raise ConnectionRefusedError("the relay closed the connection: it did not admit this node's key")


def _tune(stream: trio.abc.Stream) -> None:
    """Lets writes be large, and has the kernel give up on a relay that acknowledges nothing."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if isinstance(stream, trio.SocketStream):
        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, WRITE_AHEAD)
        stream.setsockopt(trio.socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _reason(error: BaseException) -> str:
    """Why a link broke, in words: a broken stream's own message says little, its cause more."""
    if isinstance(error, trio.ClosedResourceError):
        return "closed"
    return str(error.__cause__ or error) or type(error).__name__
