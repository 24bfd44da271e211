"""The head of an HTTP/1.1 message (RFC 9112 §2.1): everything up to the blank line. Pure.

Only what deciding needs is read here: the request is handed on byte for byte, and whoever answers parses it again.
"""

import re
from dataclasses import dataclass
from typing import Final

from coderd.model import limits
from coderd.model.errors import MalformedPacket

MAX_HEAD_SIZE: Final = limits.MAX_HTTP_HEAD
MAX_FIELDS: Final = limits.MAX_HTTP_FIELDS
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's first lines. Field names are in lower case; of a repeated field all values are kept, in order."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def field(self, name: str) -> str:
        """The first value of a field, empty where it is absent."""
        return next((value for field, value in self.fields if field == name), "")

    def has_token(self, name: str, token: str) -> bool:
        """Whether any value of a comma-separated field contains a token, without regard to case."""
        values = (value for field, value in self.fields if field == name)
        return any(token == item.strip().lower() for value in values for item in value.split(","))

    def wants_derp(self) -> bool:
        """Whether the connection shall become a relay's: an upgrade at ``/derp``, to DERP itself or to a WebSocket."""
        return self.path == "/derp" and self.field("upgrade").lower() in ("derp", "websocket")

    def wants_derp_in_websocket(self) -> bool:
        """Whether DERP shall go in WebSocket messages. Without the subprotocol it never has: that is a plain upgrade."""
        return self.field("upgrade").lower() == "websocket" and self.has_token(
            "sec-websocket-protocol", "derp"
        )


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response's first lines; see ``RequestHead`` for the fields."""

    status: int
    fields: tuple[tuple[str, str], ...] = ()

    def field(self, name: str) -> str:
        """The first value of a field, empty where it is absent."""
        return next((value for field, value in self.fields if field == name), "")


def find_head_end(data: bytes | bytearray, start: int = 0) -> int:
    """Where the head ends, just past its blank line; -1 while that has not come.

    Args:
        data: what has been received.
        start: how much of it was searched before.
    """
    match = _BLANK_LINE.search(data, max(0, start - 2))
    return match.end() if match else -1


def parse_request_head(head: bytes) -> RequestHead:
    """Reads a request's head. Raises MalformedPacket, also on any version but 1.0 and 1.1."""
    first, fields = _lines(head)
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise MalformedPacket("not an HTTP/1.1 request")
    return RequestHead(match[1].decode(), match[2].decode(), fields)


def parse_response_head(head: bytes) -> ResponseHead:
    """Reads a response's head. Raises MalformedPacket."""
    first, fields = _lines(head)
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise MalformedPacket("not an HTTP/1.1 response")
    return ResponseHead(int(match[1]), fields)


def _lines(head: bytes) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    first, *rest = head.split(b"\n")
    fields: list[tuple[str, str]] = []
    for line in rest:
        stripped = line.removesuffix(b"\r")
        if not stripped:
            continue
        match = _FIELD.fullmatch(stripped)
        if match is None:
            raise MalformedPacket("a header line without a name")
        fields.append((match[1].decode().lower(), match[2].decode("latin-1")))
    return first.removesuffix(b"\r"), tuple(fields)
