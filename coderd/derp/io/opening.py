"""Opens an admitted connection to one node: by the upgrade to DERP, or by WebSocket where that is refused.

Proxies and firewalls refuse the upgrade by a status, by silence, by closing the connection, or with another
protocol. After each of these a WebSocket is tried once, on a new connection, and the reason is kept. A
refusal by the relay itself, after its ServerKey, is final.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import trio

from coderd.derp.client import DerpClient
from coderd.derp.dial_plan import DialPlan
from coderd.derp.io.dial import dial_node
from coderd.derp.io.meta_certificate import announced_key
from coderd.derp.io.websocket import WebSocketStream
from coderd.derp.upgrade import (
    WHY_CLOSED,
    WHY_GARBLED,
    WHY_SILENT,
    upgrade_request,
    websocket_request,
    why_status,
)
from coderd.http import ws_handshake
from coderd.http.dialer import read_response_head
from coderd.http.head import ResponseHead
from coderd.http.tls_stream import TlsStream
from coderd.model import RandomBytes
from coderd.model.errors import MalformedPacket
from coderd.model.keys import ServerPublic

ANSWER_TIMEOUT: Final = 2.5
"""Seconds from the end of the TLS handshake to the relay's ServerKey."""
ATTEMPTS: Final = 2
"""Tries of the upgrade on status 426, the answer where a proxy sends it over a used connection."""
SWITCHING_PROTOCOLS: Final = 101
UPGRADE_REQUIRED: Final = 426
TOO_MANY_REQUESTS: Final = 429
OUTAGES: Final = frozenset({502, 503, 504})
READ_SIZE: Final = 256 * 1024
WRITE_AHEAD: Final = 64 * 1024
USER_TIMEOUT_MS: Final = 5000
_TCP_USER_TIMEOUT: Final = 18

MakeClient: TypeAlias = Callable[[ServerPublic | None], DerpClient]
"""Maker of a new client's end; its argument is the relay's key if TLS has announced it."""


class Opened(NamedTuple):
    """An admitted connection, and how it was opened.

    Attributes:
        stream: carries DERP's bytes.
        client: the client's end, with ServerInfo received.
        why_websocket: why the upgrade was not used; empty where it was.
        is_lesson: whether the next dial should begin with a WebSocket: the upgrade was tried and refused,
            other than by an outage, such as a server that restarts behind its proxy.
    """

    stream: trio.abc.Stream
    client: DerpClient
    why_websocket: str
    is_lesson: bool = False


class NotAdmitted(ConnectionRefusedError):
    """The error of a relay that sent ServerKey, then closed: it does not serve this node's key.

    Attributes:
        why_websocket: why a WebSocket was used; empty for an upgrade.
    """

    def __init__(self, why_websocket: str) -> None:
        super().__init__("the relay closed the connection: it did not admit this node's key")
        self.why_websocket = why_websocket


class UpgradeRefused(Exception):
    """The error of an upgrade that did not reach a relay.

    Attributes:
        why: the reason, as ``Opened.why_websocket`` has it.
        error: the error to raise if the WebSocket fails, too.
        is_outage: whether a proxy answered that the server is down (502, 503, 504).
    """

    def __init__(self, why: str, error: OSError, *, is_outage: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.error = error
        self.is_outage = is_outage


async def open_node(
    plan: DialPlan, make_client: MakeClient, *, ideal_node: str, detour: str, rng: RandomBytes
) -> Opened:
    """Connects to a node and waits for its admission.

    Args:
        plan: the node.
        make_client: called for each connection.
        ideal_node: the name of the region's first node.
        detour: why the upgrade is not to be tried; empty to try it.
        rng: randomness for the WebSocket's key.

    Raises: OSError: NotAdmitted, or the upgrade's failure if the WebSocket fails, too.
    """
    if detour:
        return await _by_websocket(plan, make_client, detour, rng)
    try:
        return await _by_upgrade(plan, make_client, ideal_node)
    except UpgradeRefused as refused:
        refusal = refused
    try:
        opened = await _by_websocket(plan, make_client, refusal.why, rng)
    except NotAdmitted:  # the WebSocket did reach the relay
        raise
    except OSError:
        raise refusal.error from None
    return opened._replace(is_lesson=not refusal.is_outage)


async def _by_upgrade(plan: DialPlan, make_client: MakeClient, ideal_node: str) -> Opened:
    for remaining in reversed(range(ATTEMPTS)):
        stream = await dial_node(plan)
        _tune(stream)
        try:
            announced = announced_key(stream)
            client = make_client(announced)
            request = upgrade_request(plan, ideal_node, fast_start=announced is not None)
            status = await _ask(stream, client, request, plan, fast_start=announced is not None)
            if status == SWITCHING_PROTOCOLS:
                await _be_admitted(stream, client, "")
                return Opened(stream, client, "")
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        await trio.aclose_forcefully(stream)
        if status != UPGRADE_REQUIRED or not remaining:
            break
    raise UpgradeRefused(why_status(status), _no_relay(plan, status), is_outage=status in OUTAGES)


async def _ask(
    stream: trio.abc.Stream, client: DerpClient, request: bytes, plan: DialPlan, *, fast_start: bool
) -> int:
    """Asks for the upgrade, and reads up to the relay's ServerKey. Returns the status, 101 on success.

    Raises: UpgradeRefused, OSError.
    """
    try:
        with trio.fail_after(ANSWER_TIMEOUT):
            if fast_start:
                await stream.send_all(request + (client.poll_transmit() or b""))
                leftover = b""
            else:
                await stream.send_all(request)
                answer, leftover = await read_response_head(stream)
                if answer.status == TOO_MANY_REQUESTS:  # the relay's own answer
                    raise ConnectionRefusedError(
                        f"{plan.host_header} turns us away: too many connect at once"
                    )
                if answer.status != SWITCHING_PROTOCOLS:
                    return answer.status
            await _converse(stream, client, leftover, lambda: client.is_greeted)
    except trio.TooSlowError:
        error: OSError = TimeoutError(f"{plan.host_header} did not answer within {ANSWER_TIMEOUT:g} s")
        raise UpgradeRefused(WHY_SILENT, error) from None
    except MalformedPacket as malformed:
        error = ConnectionResetError(f"{plan.host_header}: {malformed}")
        raise UpgradeRefused(WHY_GARBLED, error) from None
    except (ConnectionResetError, trio.BrokenResourceError) as broken:
        error = ConnectionResetError(f"{plan.host_header}: {reason(broken)}")
        raise UpgradeRefused(WHY_CLOSED, error) from None
    return SWITCHING_PROTOCOLS


async def _by_websocket(plan: DialPlan, make_client: MakeClient, why: str, rng: RandomBytes) -> Opened:
    """Opens a connection by WebSocket; ``why`` says why the upgrade is not used. Raises OSError."""
    stream = await dial_node(plan)
    _tune(stream)
    try:
        key = ws_handshake.make_key(rng)
        client = make_client(None)
        with trio.fail_after(ANSWER_TIMEOUT):
            await stream.send_all(websocket_request(plan, key))
            answer, leftover = await read_response_head(stream)
            _check_websocket(plan, answer, key)
            carrier = WebSocketStream(stream, is_client=True, leftover=leftover)
            await _converse(carrier, client, b"", lambda: client.is_greeted)
        await _be_admitted(carrier, client, why)
    except (MalformedPacket, trio.BrokenResourceError) as error:
        await trio.aclose_forcefully(stream)
        raise ConnectionResetError(f"{plan.host_header}: {reason(error)}") from error
    except trio.TooSlowError:
        await trio.aclose_forcefully(stream)
        raise TimeoutError(f"{plan.host_header} did not answer within {ANSWER_TIMEOUT:g} s") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return Opened(carrier, client, why)


def _check_websocket(plan: DialPlan, answer: ResponseHead, key: str) -> None:
    """Checks that an answer opens a WebSocket (RFC 6455 §4.1). Raises OSError if it does not."""
    if answer.status != SWITCHING_PROTOCOLS:
        raise _no_relay(plan, answer.status)
    if answer.field("sec-websocket-accept") != ws_handshake.accept_proof(key):
        raise ConnectionRefusedError(f"{plan.host_header} is not a relay: it does not speak WebSocket")


async def _converse(
    stream: trio.abc.Stream, client: DerpClient, data: bytes | bytearray, is_done: Callable[[], bool]
) -> None:
    """Handles received bytes and writes answers until ``is_done`` returns True.

    Raises: MalformedPacket; OSError at the stream's end.
    """
    while True:
        client.handle_data(data, trio.current_time())
        if (answer := client.poll_transmit()) is not None:
            await stream.send_all(answer)
        if is_done():
            return
        data = await stream.receive_some(READ_SIZE)
        if not data:
            raise ConnectionResetError("the server closed the connection instead of answering")


async def _be_admitted(stream: trio.abc.Stream, client: DerpClient, why_websocket: str) -> None:
    """Waits for ServerInfo, by which the relay admits this node. Raises OSError, NotAdmitted among them."""
    try:
        await _converse(stream, client, b"", lambda: client.server_info is not None)
    except MalformedPacket as error:
        raise ConnectionResetError(str(error)) from error
    except (ConnectionResetError, trio.BrokenResourceError):
        raise NotAdmitted(why_websocket) from None


def _no_relay(plan: DialPlan, status: int) -> OSError:
    return ConnectionRefusedError(f"{plan.host_header} is not a relay: it answers {status}")


def _tune(stream: trio.abc.Stream) -> None:
    """Sets TCP options: large writes, and an end of the connection after 5 s without acknowledgement."""
    while isinstance(stream, TlsStream):
        stream = stream.transport_stream
    if isinstance(stream, trio.SocketStream):
        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, WRITE_AHEAD)
        stream.setsockopt(trio.socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def reason(error: BaseException) -> str:
    """Returns why a stream broke: the message of the error's cause, if it has one, else its own."""
    if isinstance(error, trio.ClosedResourceError):
        return "closed"
    return str(error.__cause__ or error) or type(error).__name__
