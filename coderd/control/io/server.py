"""The daemon's end of the control socket: who calls is asked of the kernel, what is said is bounded, nothing hangs.

Each connection has a reader, so that a caller who leaves is noticed while its request is being served, and a server that
answers one request after the other. Whatever a caller does is answered and counted, never raised.
"""

import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeAlias

import structlog
import trio

from coderd.control.io.listening import bound_socket, group_id
from coderd.control.messages import Access, AnyMethod, Message
from coderd.control.protocol import (
    GROUP,
    Caller,
    LineSplitter,
    Refusal,
    Request,
    encode_error,
    encode_event,
    encode_result,
    is_allowed,
    parse_request,
    refusal,
)
from coderd.http.turns import Turn
from coderd.metrics import Counters
from coderd.model.errors import MalformedPacket, UserError

SO_PEERGROUPS = 59
"""The caller's supplementary groups, which SO_PEERCRED does not carry (``asm-generic/socket.h``)."""
MAX_CONNECTIONS = 128
MAX_CONNECTIONS_PER_USER = 32
"""The socket is open to everybody: one user's idle connections must not keep the others, and root, out."""
MAX_WAITING_LINES = 16
IDLE_TIMEOUT = 30.0
"""Seconds that a connection may stay without a request."""
WRITE_TIMEOUT = 10.0
"""Seconds after which a caller who does not read is given up."""
READ_SIZE = 65536

_UCRED = struct.Struct("3i")
_GROUPS_SIZE = 1024
"""Python's limit for getsockopt: 256 groups. A caller in more is known by its primary group alone."""

Emit: TypeAlias = Callable[[Message], Awaitable[None]]

log = structlog.get_logger()


class ControlHandler(Protocol):
    """Serves requests of callers who may make them."""

    async def handle(self, method: str, params: Message, emit: Emit) -> Message:
        """Answers one request: ``emit`` sends an event, one at a time; the return value is the result.

        Cancelled when the caller leaves. Raises UserError for what the caller should read.
        """


async def serve_control(
    path: Path,
    handler: ControlHandler,
    *,
    operator_uid: int | None = None,
    counters: Counters | None = None,
    group: str = GROUP,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listens on ``path`` until cancelled, and takes the socket's file away at the end.

    Args:
        path: where the socket is made, mode 0666; the kernel says who calls.
        handler: serves what is asked.
        operator_uid: a user who may do what root may.
        counters: refused and hostile callers, as ``control.*``.
        group: whose members may use what needs no rights over the node.
        task_status: started once callers can connect.

    Raises:
        UserError: another daemon lives behind ``path``, or no socket can be made there.
    """
    server = _ControlServer(
        handler, operator_uid, group_id(group), counters if counters is not None else Counters()
    )
    with bound_socket(path) as listening:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        task_status.started()
        await trio.serve_listeners(server.serve, [listener])


def peer_caller(sock: trio.socket.SocketType) -> Caller | None:
    """Who connected, as the kernel noted it then; None where it does not say."""
    try:
        credentials = sock.getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_PEERCRED, _UCRED.size)
        _, uid, gid = _UCRED.unpack(credentials)
    except (OSError, struct.error):
        return None
    return Caller(uid, gid, _peer_groups(sock))


def _peer_groups(sock: trio.socket.SocketType) -> frozenset[int]:
    try:
        packed = sock.getsockopt(trio.socket.SOL_SOCKET, SO_PEERGROUPS, _GROUPS_SIZE)
    except OSError:
        return frozenset()
    return frozenset(gid for (gid,) in struct.iter_unpack("I", packed))


class _CallerGone(Exception):
    """The caller closed its end, or stopped reading."""


class _ControlServer:
    """Serves connections. Owns the number of open ones, in all and by user."""

    def __init__(
        self, handler: ControlHandler, operator_uid: int | None, group_gid: int | None, counters: Counters
    ) -> None:
        self._handler = handler
        self._operator_uid = operator_uid
        self._group_gid = group_gid
        self._counters = counters
        self._n_open: Counter[int | None] = Counter()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serves one connection to its end."""
        caller = peer_caller(stream.socket)
        uid = caller.uid if caller is not None else None
        self._n_open[uid] += 1
        try:
            async with stream:
                await self._converse(_Connection(stream, self._counters), caller, uid)
        finally:
            self._n_open[uid] -= 1
            self._n_open += Counter()  # which drops the zeros

    async def _converse(self, connection: "_Connection", caller: Caller | None, uid: int | None) -> None:
        if self._n_open.total() > MAX_CONNECTIONS or self._n_open[uid] > MAX_CONNECTIONS_PER_USER:
            self._counters["control.drop.too_many_connections"] += 1
            await connection.refuse(UserError("the daemon serves too many callers at once", code="busy"))
            return
        lines_in, lines = trio.open_memory_channel[bytes | UserError](MAX_WAITING_LINES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.read_lines, lines_in, nursery.cancel_scope)
            await self._answer_all(connection, caller, lines)
            nursery.cancel_scope.cancel()

    async def _answer_all(
        self,
        connection: "_Connection",
        caller: Caller | None,
        lines: "trio.MemoryReceiveChannel[bytes | UserError]",
    ) -> None:
        is_open = True
        while is_open:
            line: bytes | UserError | None = None
            with trio.move_on_after(IDLE_TIMEOUT):
                line = await lines.receive()
            if isinstance(line, bytes):
                is_open = await self._answer(connection, caller, line)
            else:
                is_open = False
                if line is not None:
                    await connection.refuse(line)

    async def _answer(self, connection: "_Connection", caller: Caller | None, line: bytes) -> bool:
        """Answers a line; returns whether the connection is worth another."""
        try:
            request = parse_request(line)
        except Refusal as error:
            self._counters[f"control.drop.{error.code}"] += 1
            await connection.refuse(error, error.request_id)
            return error.request_id is not None
        answer = await self._serve_request(connection, caller, request)
        try:
            for part in answer:
                await connection.send(part)
        except _CallerGone:
            return False
        return True

    async def _serve_request(
        self, connection: "_Connection", caller: Caller | None, request: Request
    ) -> Iterable[bytes]:
        async def emit(event: Message) -> None:
            for part in encode_event(request.id, event):
                await connection.send(part)

        try:
            self._check(request.method, caller)
            result = await self._handler.handle(request.method.name, request.params, emit)
        except Exception as error:
            return [encode_error(request.id, self._explain(request.method, error))]
        return encode_result(request.id, result)

    def _check(self, method: AnyMethod, caller: Caller | None) -> None:
        if not is_allowed(method.access, caller, operator_uid=self._operator_uid, group_gid=self._group_gid):
            self._counters["control.refused"] += 1
            raise refusal(method)
        if method.access is Access.MANAGE and caller is not None:
            log.info("control", method=method.name, uid=caller.uid)

    def _explain(self, method: AnyMethod, error: Exception) -> UserError:
        """What the caller reads. A defect of ours goes to the log in full: it must not cost the tunnel."""
        known = _only_leaf(error)
        if isinstance(known, UserError):
            return known
        if not isinstance(known, _CallerGone):
            self._counters["control.internal_error"] += 1
            log.error("control request failed", method=method.name, exc_info=error)
        return UserError(
            f"the daemon could not do {method.name}: a defect of ours",
            hint="The daemon's log has the details: journalctl -u coderd.",
            code="internal",
        )


def _only_leaf(error: BaseException) -> BaseException:
    """The exception inside nested groups of one, as nurseries wrap it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class _Connection:
    """One caller's stream: lines in, lines out."""

    def __init__(self, stream: trio.SocketStream, counters: Counters) -> None:
        self._stream = stream
        self._counters = counters
        self._is_broken = False

    async def read_lines(
        self, lines: "trio.MemorySendChannel[bytes | UserError]", conversation: trio.CancelScope
    ) -> None:
        """Reads until the caller leaves, and ends the conversation then."""
        splitter, turn = LineSplitter(), Turn()
        try:
            while data := await self._stream.receive_some(READ_SIZE):
                for line in splitter.feed(data):
                    await turn.count()
                    lines.send_nowait(line)
        except trio.BrokenResourceError:
            pass
        except trio.WouldBlock:
            self._counters["control.drop.too_many_requests"] += 1
        except MalformedPacket as error:
            self._counters["control.drop.too_long"] += 1
            await lines.send(UserError(str(error), code="too_long"))
            return
        conversation.cancel()

    async def send(self, line: bytes) -> None:
        """Sends a line; raises _CallerGone, then and ever after, when the caller does not take it."""
        if self._is_broken:
            raise _CallerGone
        self._is_broken = True  # a line that went out in part cannot be mended
        try:
            with trio.move_on_after(WRITE_TIMEOUT):
                await self._stream.send_all(line)
                self._is_broken = False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if self._is_broken:
            self._counters["control.caller_gone"] += 1
            raise _CallerGone

    async def refuse(self, error: UserError, request_id: int | None = None) -> None:
        """Says why not, if the caller listens."""
        try:
            await self.send(encode_error(request_id, error))
        except _CallerGone:
            return
