r"""The control socket's lines: framing, contents, and which caller may call which method. Pure.

request   {"v":1,"id":n,"method":"ping","params":{...}}\n
answer    {"id":n,"event":{...}}\n               any number of them, then one of
          {"id":n,"result":{...}}\n
          {"id":n,"error":{"code","exit","message","hint"}}\n

An event or a result whose line would be longer than ``MAX_LINE`` comes in parts, each a piece of its JSON as
a text:

          {"id":n,"part":"..."}\n               any number of them, then
          {"id":n,"whole":"event"}\n            or "result": what they make, one behind the other

One request is answered before the next is read. Both ends ignore fields that they do not know. An error that
belongs to no request (the line was no request at all) has the id null.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from coderd.control.messages import METHODS, Access, AnyMethod, Message, Method
from coderd.model import Buffer
from coderd.model.errors import Exit, MalformedPacket, UserError

VERSION: Final = 1
MAX_LINE: Final = 1 << 20
"""Bytes of a line, its newline included."""
PART: Final = MAX_LINE // 8
"""Letters of a part.

Each has at most four bytes, as UTF-8 or escaped as JSON, so that a part's line is well below ``MAX_LINE``.
"""
MAX_WHOLE: Final = 128 << 20
"""Letters of an event or result in parts, that is of some 200,000 peers; more is no answer of a daemon's."""
GROUP: Final = "coderd"
"""Members of this group may use what needs no rights over the node itself."""

P = TypeVar("P", bound=Message)
E = TypeVar("E", bound=Message)
R = TypeVar("R", bound=Message)


class LineSplitter:
    """Cuts a stream into lines, never holding more than ``limit`` bytes of an unfinished one."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._at = self._searched = 0

    def feed(self, data: Buffer) -> Iterator[bytes]:
        """Takes what arrived, cut anywhere; returns this splitter, an iterator of lines.

        Each line is cut off when it is asked for.
        """
        del self._rest[: self._at]
        self._at = 0
        self._rest += data
        return iter(self)

    def next_line(self) -> bytes | None:
        """Returns the next whole line without its newline, None where there is none.

        Raises MalformedPacket for one over the limit.
        """
        end = self._rest.find(b"\n", self._searched if self._at == 0 else self._at)
        size = (len(self._rest) if end < 0 else end) - self._at
        if size >= self._limit:
            raise MalformedPacket(f"a line of the control socket has at most {self._limit} bytes")
        if end < 0:
            self._searched = size
            return None
        line = bytes(self._rest[self._at : end])
        self._at, self._searched = end + 1, 0
        return line

    def __iter__(self) -> Iterator[bytes]:
        while (line := self.next_line()) is not None:
            yield line


class Request(NamedTuple):
    """A request with parameters of its method's type."""

    id: int
    method: AnyMethod
    params: Message


class _RequestLine(msgspec.Struct):
    v: int
    id: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    method: Annotated[str, msgspec.Meta(max_length=64)]
    params: msgspec.Raw = msgspec.Raw(b"{}")


class _ErrorBody(msgspec.Struct):
    code: str
    exit: int
    message: str
    hint: str = ""


_Whole: TypeAlias = Literal["event", "result"]


class _AnswerLine(msgspec.Struct):
    id: int | None = None
    event: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    part: str | None = None
    whole: _Whole | None = None
    error: _ErrorBody | None = None


_REQUEST = msgspec.json.Decoder(_RequestLine)
_ANSWER = msgspec.json.Decoder(_AnswerLine)


class Refusal(UserError):
    """An invalid request line; ``request_id`` is None if it has no valid id."""

    def __init__(self, message: str, *, code: str, request_id: int | None, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.request_id = request_id


def parse_request(line: Buffer) -> Request:
    """Parses a request. Raises only Refusal, on any bytes that are no valid request."""
    try:
        head = _REQUEST.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refusal(f"this is not a valid request: {error}", code="malformed", request_id=None) from None
    if head.v != VERSION:
        raise Refusal(
            f"the daemon speaks version {VERSION} of the control protocol, not {head.v}",
            code="unsupported_version",
            request_id=head.id,
            hint="Restart the daemon after an update, so that both are of one version.",
        )
    method = METHODS.get(head.method)
    if method is None:
        raise Refusal(
            f"the daemon knows no method {head.method!r}", code="unknown_method", request_id=head.id
        )
    return Request(head.id, method, _params(method, head))


def _params(method: AnyMethod, head: _RequestLine) -> Message:
    try:
        return msgspec.json.decode(head.params, type=method.params)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refusal(
            f"the parameters of {method.name} are wrong: {error}", code="bad_params", request_id=head.id
        ) from None


def encode_request(request_id: int, method: Method[P, E, R], params: P) -> bytes:
    """Encodes a request as one line."""
    return _line({"v": VERSION, "id": request_id, "method": method.name, "params": params})


def encode_event(request_id: int, event: Message) -> Iterator[bytes]:
    """Encodes an event as its line, or its lines."""
    return _lines(request_id, "event", event)


def encode_result(request_id: int, result: Message) -> Iterator[bytes]:
    """Encodes a result as its line, or its lines: the last of its request."""
    return _lines(request_id, "result", result)


def _lines(request_id: int, what: _Whole, message: Message) -> Iterator[bytes]:
    """Whatever its size, no line is longer than ``MAX_LINE``; a short one is as it always was."""
    line = _line({"id": request_id, what: message})
    if len(line) <= MAX_LINE:
        yield line
        return
    text = msgspec.json.encode(message).decode()
    for start in range(0, len(text), PART):
        yield _line({"id": request_id, "part": text[start : start + PART]})
    yield _line({"id": request_id, "whole": what})


def encode_error(request_id: int | None, error: UserError) -> bytes:
    """Encodes an error as its line: the last of its request."""
    body = _ErrorBody(error.code, int(error.exit_code), error.message, error.hint)
    return _line({"id": request_id, "error": body})


def _line(value: dict[str, object]) -> bytes:
    return msgspec.json.encode(value) + b"\n"


class Event(NamedTuple, Generic[E]):
    """Something on the way to the result."""

    value: E


class Result(NamedTuple, Generic[R]):
    """The end of a request."""

    value: R


class AnswerReader(Generic[E, R]):
    """Reads the lines that answer one request."""

    def __init__(self, method: Method[P, E, R], request_id: int) -> None:
        self._event = method.event
        self._result = method.result
        self._request_id = request_id
        self._parts: list[str] = []
        self._n_letters = 0

    def read(self, line: Buffer) -> Event[E] | Result[R] | None:
        """Parses a line; returns None for a part that later lines complete.

        Raises:
            UserError: the daemon's own, with its code and exit code.
            MalformedPacket: the line follows no known form, or answers another request.
        """
        try:
            return self._read(_ANSWER.decode(line))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise MalformedPacket(f"not an answer of the daemon: {error}") from None

    def _read(self, answer: _AnswerLine) -> Event[E] | Result[R] | None:
        if answer.error is not None:
            raise _user_error(answer.error)
        if answer.id != self._request_id:
            raise MalformedPacket(f"an answer to request {answer.id} in place of {self._request_id}")
        if answer.part is not None:
            self._keep(answer.part)
            return None
        event: msgspec.Raw | str = answer.event
        result: msgspec.Raw | str = answer.result
        if answer.whole is not None:
            text, self._parts, self._n_letters = "".join(self._parts), [], 0
            event, result = (text, "") if answer.whole == "event" else ("", text)
        if event:
            return Event(msgspec.json.decode(event, type=self._event))
        if result:
            return Result(msgspec.json.decode(result, type=self._result))
        raise MalformedPacket("an answer with neither event, result nor error")

    def _keep(self, part: str) -> None:
        self._n_letters += len(part)
        if self._n_letters > MAX_WHOLE:
            raise MalformedPacket(f"an answer of more than {MAX_WHOLE} letters")
        self._parts.append(part)


def _user_error(body: _ErrorBody) -> UserError:
    known = body.exit in Exit.__members__.values()
    return UserError(
        body.message, exit_code=Exit(body.exit) if known else Exit.FAILED, hint=body.hint, code=body.code
    )


class Caller(NamedTuple):
    """Who is at the other end of the socket, as the kernel says."""

    uid: int
    gid: int
    groups: frozenset[int]


def is_allowed(
    access: Access, caller: Caller | None, *, operator_uid: int | None, group_gid: int | None
) -> bool:
    """Returns whether a caller may use methods of this access; one that the kernel does not name may not.

    Args:
        access: what the method asks for.
        caller: from SO_PEERCRED and SO_PEERGROUPS; None where they failed.
        operator_uid: the user who manages this node besides root, if any.
        group_gid: the id of group ``coderd``, None where the machine has no such group.
    """
    if caller is None:
        return False
    if caller.uid == 0 or (operator_uid is not None and caller.uid == operator_uid):
        return True
    in_group = group_gid is not None and (caller.gid == group_gid or group_gid in caller.groups)
    return access is Access.USE and in_group


def refusal(method: AnyMethod) -> UserError:
    """Returns what a caller without the right reads, with the ways to get it."""
    hint = "Run it with sudo, or start the daemon with your user as its operator (--operator)."
    if method.access is Access.USE:
        hint = f'Run it with sudo, or join the group: sudo usermod -aG {GROUP} "$USER", then sign in again.'
    return UserError(
        f"you are not allowed to use {method.name} on this machine's daemon",
        exit_code=Exit.REFUSED,
        hint=hint,
        code="not_allowed",
    )
