"""The daemon's end of the control socket: the kernel identifies callers, and all they may do is bounded.

Every local user may connect, so there are three pools of places: for callers that manage the node, for those
that use it, and for those that are only refused. Within a pool each user has a share, and the user with the
fewest places comes first. A caller without a place is refused at once, without a task and without waiting,
and the loop accepts a bounded number in a turn: under a flood of connections root's waits some tenths of a
second in the kernel's queue, and is served.

Each connection has a reader, which notices that a caller leaves while its request is served, and a server,
which answers one request after the other. Errors of callers are answered and counted, not raised.
"""

import errno
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

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
from coderd.model.seats import NoSeat, Seats

SO_PEERGROUPS = 59
"""The caller's supplementary groups, which SO_PEERCRED does not carry (``asm-generic/socket.h``)."""
MAX_MANAGERS_CONNECTIONS = 64
"""Of root and the operator alone."""
MAX_USERS_CONNECTIONS = 96
MAX_USERS_CONNECTIONS_EACH = 32
"""Of the group's members."""
MAX_OTHERS_CONNECTIONS = 32
MAX_OTHERS_CONNECTIONS_EACH = 4
"""Of callers that may use no method, and read only that."""
ACCEPTED_AT_ONCE = 64
ACCEPT_PAUSE = 0.005
"""Seconds after so many in a row, for the tunnel's tasks."""
OUT_OF_FILES_PAUSE = 0.1
MAX_WAITING_LINES = 16
IDLE_TIMEOUT = 30.0
"""Seconds that a connection may stay without a request."""
WRITE_TIMEOUT = 10.0
"""Seconds after which a caller who does not read is given up."""
READ_SIZE = 65536

_UCRED = struct.Struct("3i")
_GROUPS_SIZE = 1024
"""Python's limit for getsockopt: 256 groups. A caller in more is known by its primary group alone."""

_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BUSY: Final = UserError("the daemon serves too many callers at once", hint="Try again.", code="busy")

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
    """Listens on ``path`` until cancelled, and removes the socket's file at the end.

    Args:
        path: of the socket, which is made with mode 0666: the kernel identifies callers.
        handler: serves requests.
        operator_uid: of a user with root's rights on the socket.
        counters: refused and hostile callers, as ``control.*``.
        group: its members may call the methods of ``Access.USE``.
        task_status: started once callers can connect.

    Raises:
        UserError: another daemon listens at ``path``, or no socket can be made there.
    """
    server = _ControlServer(
        handler, operator_uid, group_id(group), counters if counters is not None else Counters()
    )
    with bound_socket(path) as listening:
        listening.setblocking(False)
        task_status.started()
        await server.serve(listening)


def peer_caller(sock: socket.socket) -> Caller | None:
    """Returns the peer's user and groups at its connect (SO_PEERCRED); None if the kernel does not say."""
    try:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, uid, gid = _UCRED.unpack(credentials)
    except (OSError, struct.error):
        return None
    return Caller(uid, gid, _peer_groups(sock))


def _peer_groups(sock: socket.socket) -> frozenset[int]:
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _GROUPS_SIZE)
    except OSError:
        return frozenset()
    return frozenset(gid for (gid,) in struct.iter_unpack("I", packed))


class _CallerGone(Exception):
    """The caller closed its end, or stopped reading."""


@dataclass(frozen=True, eq=False, slots=True)
class _Visit:
    """A connection that has a place."""

    caller: Caller | None
    scope: trio.CancelScope


class _ControlServer:
    """Accepts and serves connections. Owns their places."""

    def __init__(
        self, handler: ControlHandler, operator_uid: int | None, group_gid: int | None, counters: Counters
    ) -> None:
        self._handler = handler
        self._operator_uid = operator_uid
        self._group_gid = group_gid
        self._counters = counters
        self._managers = Seats[_Visit](limit=MAX_MANAGERS_CONNECTIONS, limit_each=MAX_MANAGERS_CONNECTIONS)
        self._users = Seats[_Visit](limit=MAX_USERS_CONNECTIONS, limit_each=MAX_USERS_CONNECTIONS_EACH)
        self._others = Seats[_Visit](limit=MAX_OTHERS_CONNECTIONS, limit_each=MAX_OTHERS_CONNECTIONS_EACH)

    async def serve(self, listening: socket.socket) -> None:
        """Accepts until cancelled, so many in a turn."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listening)
                try:
                    for _ in range(ACCEPTED_AT_ONCE):
                        self._admit(listening.accept()[0], nursery)
                    await trio.sleep(ACCEPT_PAUSE)
                except BlockingIOError:
                    continue
                except OSError as error:
                    if error.errno not in _OUT_OF_FILES:
                        raise
                    self._counters["control.drop.out_of_files"] += 1
                    await trio.sleep(OUT_OF_FILES_PAUSE)

    def _admit(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        """Gives a connection a place, and to be served; or a sentence and its end."""
        visit = _Visit(peer_caller(sock), trio.CancelScope())
        seats = self._seats(visit.caller)
        try:
            displaced = seats.take(str(visit.caller.uid if visit.caller is not None else None), visit)
        except NoSeat:
            self._counters["control.drop.too_many_connections"] += 1
            with sock, suppress(OSError):
                sock.send(encode_error(None, _BUSY), socket.MSG_DONTWAIT)
            return
        if displaced is not None:
            displaced.scope.cancel()
        nursery.start_soon(self._visit, sock, visit, seats)

    def _seats(self, caller: Caller | None) -> Seats[_Visit]:
        if self._may(Access.MANAGE, caller):
            return self._managers
        return self._users if self._may(Access.USE, caller) else self._others

    def _may(self, access: Access, caller: Caller | None) -> bool:
        return is_allowed(access, caller, operator_uid=self._operator_uid, group_gid=self._group_gid)

    async def _visit(self, sock: socket.socket, visit: _Visit, seats: Seats[_Visit]) -> None:
        """Serves one connection to its end."""
        try:
            with visit.scope:
                async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
                    await self._converse(_Connection(stream, self._counters), visit.caller)
        finally:
            sock.close()
            seats.leave(visit)

    async def _converse(self, connection: "_Connection", caller: Caller | None) -> None:
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
        if not self._may(method.access, caller):
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
