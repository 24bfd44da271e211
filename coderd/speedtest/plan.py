r"""How a test begins: one JSON line each way, in the form that Tailscale's and Coder's clients use.

client   {"version":2,"time":<nanoseconds>,"direction":0|1,"path":"any"|"direct"|"relay","secret":"..."}\n
server   {}\n  or  {"error":"<one sentence>"}\n     then the bytes flow

Direction 0: the client downloads, 1: it uploads. ``path`` is ours: the serving node keeps its own sending to
it; a client that does not send it means "any". So is ``secret``. The sender stops after ``time`` and closes;
the receiver reads to the end.
"""

from enum import IntEnum
from typing import Annotated

import msgspec

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket
from coderd.model.paths import Pin

PROTOCOL_VERSION = 2
MAX_LINE = 4096
"""Bytes of either line."""
MIN_DURATION = 0.1
MAX_DURATION = 300.0
"""Seconds. A test is meant to be over soon: it takes the whole path."""


class Direction(IntEnum):
    """Which way the bytes go, as the client sees it."""

    DOWN = 0
    UP = 1

    @property
    def word(self) -> str:
        """``download`` or ``upload``."""
        return "download" if self is Direction.DOWN else "upload"


class StartRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client asks for."""

    version: int
    time: Annotated[int, msgspec.Meta(ge=0)]
    """Nanoseconds."""
    direction: Direction
    path: Pin = Pin.ANY
    secret: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """As the node API's: what the client's daemon has told the serving node."""

    def __repr__(self) -> str:
        return f"<StartRequest for {self.duration:g} s, secret redacted>"

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.time / 1e9


class StartReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """Empty for yes, else why not."""

    error: str = ""


def start_request(duration: float, direction: Direction, path: Pin, secret: str = "") -> StartRequest:
    """Returns the request for a test of ``duration`` seconds."""
    return StartRequest(PROTOCOL_VERSION, round(duration * 1e9), direction, path, secret)


def encode(message: StartRequest | StartReply) -> bytes:
    """Encodes a request or a reply as one line, newline included."""
    return msgspec.json.encode(message) + b"\n"


def parse_start_request(line: Buffer) -> StartRequest:
    """Reads a request; raises MalformedPacket, and nothing else, on what is none."""
    try:
        return msgspec.json.decode(line, type=StartRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedPacket(f"not a speed test's start request: {error}") from None


def parse_start_reply(line: Buffer) -> StartReply:
    """Reads a reply; raises MalformedPacket, and nothing else, on what is none."""
    try:
        return msgspec.json.decode(line, type=StartReply)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedPacket(f"not a speed test's reply: {error}") from None


def objection(request: StartRequest) -> str:
    """Returns why a serving node does not run this test, in one sentence; empty where it does."""
    if request.version != PROTOCOL_VERSION:
        return f"this node speaks version {PROTOCOL_VERSION} of the speed test, not {request.version}"
    if not MIN_DURATION <= request.duration <= MAX_DURATION:
        return f"a test lasts between {MIN_DURATION:g} and {MAX_DURATION:g} seconds"
    return ""
