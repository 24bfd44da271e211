r"""Frames between a terminal and its client, on a stream of the node API. Pure.

The stream has begun with the request ``{"method":"terminal"}``.

offset size field
0      1    kind
1      2    length of the body, big-endian, at most 16384
3      n    body

client to workspace                               workspace to client
01 open    seen 8, rows 2, columns 2, token 0|16  81 opened   place 8, token 16: output goes on at this place
02 input   bytes for the shell                    82 output   bytes of the shell, each one place further
03 resize  rows 2, columns 2                      83 exited   code 1: the shell's, 128 + n where signal n ended it
04 ping    8 bytes of the client's                84 pong     the same 8 bytes
05 close   nothing: ends the shell                85 refused  a word, a space and a sentence, UTF-8

``open`` comes first and once; without a token it starts a shell, with one it attaches to that shell again.
``seen`` is the place behind the last byte that the client has.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias, TypeVar

from coderd.model import Buffer, limits
from coderd.model.errors import MalformedPacket

HEADER = struct.Struct(">BH")
MAX_BODY: Final = limits.MAX_TERMINAL_BODY
TOKEN_SIZE = 16
PING_SIZE = 8
MAX_SIDE: Final = limits.MAX_TERMINAL_SIDE
"""Most rows or columns of a screen."""

_OPEN = struct.Struct(">QHH")
_SIZE = struct.Struct(">HH")
_PLACE = struct.Struct(">Q")

T = TypeVar("T")


class Size(NamedTuple):
    """Size of a screen, in characters."""

    rows: int
    columns: int


class Open(NamedTuple):
    """Request to start a shell, or with a token to attach to it again."""

    seen: int
    size: Size
    token: bytes = b""


class Input(NamedTuple):
    """Bytes that the user typed."""

    data: bytes


class Resize(NamedTuple):
    """Change of the size of the client's screen."""

    size: Size


class Ping(NamedTuple):
    """Request for a Pong with the same mark: measures the round trip and shows that the client is there."""

    mark: bytes


class Close(NamedTuple):
    """Request to end the shell."""


class Opened(NamedTuple):
    """Answer to Open: output follows from ``place`` on, later than requested if that is no longer kept."""

    place: int
    token: bytes


class Output(NamedTuple):
    """Bytes that the shell wrote."""

    data: bytes


class Exited(NamedTuple):
    """Last message: the shell has ended with this exit code."""

    code: int


class Pong(NamedTuple):
    """Answer to a Ping."""

    mark: bytes


class Refused(NamedTuple):
    """Last message: why there is no terminal, or no longer."""

    code: str
    message: str


FromClient: TypeAlias = Open | Input | Resize | Ping | Close
FromWorkspace: TypeAlias = Opened | Output | Exited | Pong | Refused


def encode(message: FromClient | FromWorkspace) -> bytes:
    """Encodes a message as a frame. Input and Output carry at most ``MAX_BODY`` bytes."""
    match message:
        case Open(seen, size, token):
            return _frame(0x01, _OPEN.pack(seen, *size) + token)
        case Input(data):
            return _frame(0x02, data)
        case Resize(size):
            return _frame(0x03, _SIZE.pack(*size))
        case Ping(mark):
            return _frame(0x04, mark)
        case Close():
            return _frame(0x05, b"")
        case Opened(place, token):
            return _frame(0x81, _PLACE.pack(place) + token)
        case Output(data):
            return _frame(0x82, data)
        case Exited(code):
            return _frame(0x83, bytes([code]))
        case Pong(mark):
            return _frame(0x84, mark)
        case Refused(code, text):
            return _frame(0x85, f"{code} {text}".encode()[:MAX_BODY])


def _frame(kind: int, body: bytes) -> bytes:
    assert len(body) <= MAX_BODY
    return HEADER.pack(kind, len(body)) + body


class FrameSplitter:
    """Splitter of a stream into frames. Holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: Buffer) -> Iterator[tuple[int, bytes]]:
        """Takes received bytes, split anywhere. Returns an iterator over this splitter's whole frames.

        The iterator raises MalformedPacket at a frame whose body is over ``MAX_BODY`` bytes.
        """
        self._data = self._data[self._at :] + bytes(data)
        self._at = 0
        return iter(self)

    def next_frame(self) -> tuple[int, bytes] | None:
        """Returns kind and body of the next whole frame, or None; raises MalformedPacket if too long."""
        if len(self._data) - self._at < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(self._data, self._at)
        if length > MAX_BODY:
            raise MalformedPacket(f"a frame of {length} bytes")
        start = self._at + HEADER.size
        if start + length > len(self._data):
            return None
        self._at = start + length
        return kind, self._data[start : self._at]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while (frame := self.next_frame()) is not None:
            yield frame


def parse_from_client(kind: int, body: bytes) -> FromClient:
    """Parses a client's frame. Raises only MalformedPacket."""
    return _parse(_FROM_CLIENT, kind, body)


def parse_from_workspace(kind: int, body: bytes) -> FromWorkspace:
    """Parses a workspace's frame. Raises only MalformedPacket."""
    return _parse(_FROM_WORKSPACE, kind, body)


def _parse(parsers: dict[int, Callable[[bytes], T]], kind: int, body: bytes) -> T:
    parser = parsers.get(kind)
    if parser is None:
        raise MalformedPacket(f"a frame of unknown kind {kind:#04x}")
    return parser(body)


def _parse_open(body: bytes) -> Open:
    if len(body) not in (_OPEN.size, _OPEN.size + TOKEN_SIZE):
        raise MalformedPacket("an open frame of a wrong length")
    seen, rows, columns = _OPEN.unpack_from(body)
    return Open(seen, _checked(rows, columns), body[_OPEN.size :])


def _parse_resize(body: bytes) -> Resize:
    rows, columns = _SIZE.unpack(_of_size(body, _SIZE.size))
    return Resize(_checked(rows, columns))


def _parse_close(body: bytes) -> Close:
    _of_size(body, 0)
    return Close()


def _parse_opened(body: bytes) -> Opened:
    (place,) = _PLACE.unpack_from(_of_size(body, _PLACE.size + TOKEN_SIZE))
    return Opened(place, body[_PLACE.size :])


def _parse_refused(body: bytes) -> Refused:
    code, _, text = body.decode("utf-8", "replace").partition(" ")
    return Refused(code, text)


def _of_size(body: bytes, size: int) -> bytes:
    if len(body) != size:
        raise MalformedPacket(f"{len(body)} bytes where {size} belong")
    return body


def _checked(rows: int, columns: int) -> Size:
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE):
        raise MalformedPacket(f"a screen of {rows} rows and {columns} columns")
    return Size(rows, columns)


_FROM_CLIENT: dict[int, Callable[[bytes], FromClient]] = {
    0x01: _parse_open,
    0x02: Input,
    0x03: _parse_resize,
    0x04: lambda body: Ping(_of_size(body, PING_SIZE)),
    0x05: _parse_close,
}
_FROM_WORKSPACE: dict[int, Callable[[bytes], FromWorkspace]] = {
    0x81: _parse_opened,
    0x82: Output,
    0x83: lambda body: Exited(_of_size(body, 1)[0]),
    0x84: lambda body: Pong(_of_size(body, PING_SIZE)),
    0x85: _parse_refused,
}
