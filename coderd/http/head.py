"""The head of an HTTP/1.1 message (RFC 9112 §2.1): the bytes up to and including the blank line. Pure.

Parsing serves only to choose the handler: the request is handed on byte for byte, and parsed again by
Hypercorn.
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
    """A request's line and header fields: names in lower case, all values of a repeated field in order."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        """The request's target without its query."""
        return self.target.partition("?")[0]

    def field(self, name: str) -> str:
        """Returns the first value of a request's header field, empty where it is absent."""
        return next((value for field, value in self.fields if field == name), "")

    def has_token(self, name: str, token: str) -> bool:
        """Returns whether any value of a comma-separated field contains a token, without regard to case.

        Args:
            name: of the field, in lower case.
            token: in lower case.
        """
        values = (value for field, value in self.fields if field == name)
        return any(token == item.strip().lower() for value in values for item in value.split(","))

    def wants_derp(self) -> bool:
        """Returns whether the request is an upgrade of ``/derp``, to DERP itself or to a WebSocket."""
        return self.path == "/derp" and self.field("upgrade").lower() in ("derp", "websocket")

    def wants_derp_in_websocket(self) -> bool:
        """Returns whether the request asks for DERP in WebSocket messages: with the subprotocol ``derp``.

        A WebSocket upgrade without it is served as plain DERP.
        """
        return self.field("upgrade").lower() == "websocket" and self.has_token(
            "sec-websocket-protocol", "derp"
        )


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response's status and header fields: names in lower case, all values of a repeated field in order."""

    status: int
    fields: tuple[tuple[str, str], ...] = ()

    def field(self, name: str) -> str:
        """Returns the first value of a response's header field, empty where it is absent."""
        return next((value for field, value in self.fields if field == name), "")


def find_head_end(data: bytes | bytearray, start: int = 0) -> int:
    """Returns the offset just past a head's blank line, or -1 if there is none yet.

    Args:
        data: the bytes received.
        start: the number of bytes that were searched before.
    """
    match = _BLANK_LINE.search(data, max(0, start - 2))
    return match.end() if match else -1


def parse_request_head(head: bytes) -> RequestHead:
    """Parses a request's head. Raises MalformedPacket, also on an HTTP version other than 1.0 and 1.1."""
    first, fields = _lines(head)
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise MalformedPacket("not an HTTP/1.1 request")
    return RequestHead(match[1].decode(), match[2].decode(), fields)


def parse_response_head(head: bytes) -> ResponseHead:
    """Parses the head of an HTTP/1.0 or 1.1 response. Raises MalformedPacket."""
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
