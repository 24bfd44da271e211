r"""The node API's lines, on tailnet port 4: a peer asks for a TCP service of this machine, then the stream is spliced. Pure.

caller   {"v":1,"method":"dial","port":N}\n
node     {"ok":true}\n  or  {"ok":false,"error":{"code":"refused","message":"..."}}\n     then the service's own bytes
"""

from typing import Annotated, Literal

import msgspec

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket, UserError

MAX_LINE = 4096
"""Bytes of either line, its newline included."""


class DialRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for the TCP service on a port of the node's loopback."""

    v: Literal[1] = 1
    method: Literal["dial"] = "dial"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class DialError(msgspec.Struct, frozen=True, kw_only=True):
    """Why not: a word for programs and a sentence for people."""

    code: str
    message: str


class DialReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the service's bytes follow."""

    ok: bool
    error: DialError | None = None


def encode(message: DialRequest | DialReply) -> bytes:
    """Either line, newline included."""
    if isinstance(message, DialRequest):
        return msgspec.json.encode({"v": message.v, "method": message.method, "port": message.port}) + b"\n"
    return msgspec.json.encode(message) + b"\n"


def parse_dial_request(line: Buffer) -> DialRequest:
    """Reads a request; raises MalformedPacket, and nothing else, on what is none."""
    try:
        return msgspec.json.decode(line, type=DialRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedPacket(f"not a request to the node API: {error}") from None


def parse_dial_reply(line: Buffer) -> None:
    """Reads a reply; returns where the bytes follow.

    Raises:
        UserError: the node's own words for why they do not.
        MalformedPacket: the line is no reply.
    """
    try:
        reply = msgspec.json.decode(line, type=DialReply)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedPacket(f"not an answer of the node API: {error}") from None
    if not reply.ok:
        why = reply.error or DialError(code="failed", message="the workspace refused")
        raise UserError(why.message, code=why.code)
