r"""Lines of the node API, on tailnet port 4: requests for a TCP service, a terminal, or facts. Pure.

caller   {"v":1,"method":"dial","port":N,"secret":"..."}\n     secret: see Request, in each of the three
node     {"ok":true}\n  or  {"ok":false,"error":{"code":"refused","message":"..."}}\n     then the service's own bytes

caller   {"v":1,"method":"facts"}\n
node     {"ok":true,"facts":{...}}\n  or an error as above

caller   {"v":1,"method":"terminal","grace":S}\n     grace: see TerminalRequest
node     {"ok":true}\n  or an error as above
     then frames, see coderd.terminal.frames
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

from coderd.model import Buffer
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.model.netmap import Peer
from coderd.netcheck.facts import Facts

MAX_LINE = 4096
"""Bytes of either line, its newline included."""
NOT_ALLOWED = "not_allowed"
"""Code of the refusal of a node that is no peer of the workspace."""
NOT_SHARED = "not_shared"
"""Code of the refusal of a port or terminal that the workspace's share does not include."""
NO_PROOF = "no_proof"
"""Code of the refusal of a connection without the secret of the peer's daemon."""
_REFUSALS = (NOT_ALLOWED, NOT_SHARED, NO_PROOF)


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="method"):
    """Request of a caller.

    Attributes:
        v: version of the protocol.
        secret: 64 hex digits that the caller's daemon has sent to this node, and gives to users that its
            control socket admits, so that other users of that machine are refused. Earlier releases
            have none.
    """

    v: Literal[1] = 1
    secret: Annotated[str, msgspec.Meta(max_length=64)] = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} secret redacted>"


class DialRequest(Request, frozen=True, kw_only=True, tag="dial"):
    """Asks for the TCP service on a port of the node's loopback."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class FactsRequest(Request, frozen=True, kw_only=True, tag="facts"):
    """Asks what the node knows of its own network."""


class TerminalRequest(Request, frozen=True, kw_only=True, tag="terminal"):
    """Asks for a terminal.

    Attributes:
        grace: seconds for which its shell should outlast the caller's access, if the node permits it: while a
            server restarts, its node is unknown to the workspace.
    """

    grace: Annotated[float, msgspec.Meta(ge=0)] = 0.0


AnyRequest: TypeAlias = DialRequest | FactsRequest | TerminalRequest


class DialError(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal: a code for programs and a sentence for people."""

    code: str
    message: str


class DialReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the service's bytes follow."""

    ok: bool
    error: DialError | None = None


class FactsReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The node's facts, or why there are none."""

    ok: bool
    facts: Facts | None = None
    error: DialError | None = None


def encode(message: Request | DialReply | FactsReply) -> bytes:
    """Returns a message as one line of JSON, newline included."""
    return msgspec.json.encode(message) + b"\n"


def parse_node_request(line: Buffer) -> AnyRequest:
    """Parses a request line. Raises only MalformedPacket, on anything that is not a valid request."""
    try:
        request: AnyRequest = msgspec.json.decode(line, type=AnyRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedPacket(f"not a request to the node API: {error}") from None
    return request


def parse_dial_reply(line: Buffer) -> None:
    """Checks a reply; returns if it is positive, so that the service's bytes follow.

    Raises:
        UserError: the node's own words for its refusal.
        MalformedPacket: the line is no reply.
    """
    try:
        reply = msgspec.json.decode(line, type=DialReply)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedPacket(f"not an answer of the node API: {error}") from None
    if not reply.ok:
        why = reply.error or DialError(code="failed", message="the workspace refused")
        exit_code = Exit.REFUSED if why.code in _REFUSALS else Exit.FAILED
        raise UserError(why.message, exit_code=exit_code, code=why.code)


def parse_facts_reply(line: Buffer) -> Facts:
    """Parses the reply to a ``FactsRequest``. Raises MalformedPacket if it holds no facts."""
    try:
        reply = msgspec.json.decode(line, type=FactsReply)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedPacket(f"not an answer of the node API: {error}") from None
    if reply.facts is None:
        raise MalformedPacket("the node's reply holds no facts")
    return reply.facts


def objection(peer: Peer, request: Request, workspace: str) -> DialError | None:
    """Returns why a peer may not have what it asks for, or None if the server's map allows it.

    The server's own node may have everything: the server judges its users.

    Args:
        peer: who asks, as the newest map has it.
        request: what for.
        workspace: this node's full name, ``owner/workspace``.
    """
    access = peer.access
    if access.is_server:
        return None
    owner, _, name = workspace.partition("/")
    if isinstance(request, DialRequest) and request.port not in access.ports:
        shared = _name_ports(str(access.ports))
        return DialError(
            code=NOT_SHARED,
            message=f"{owner} has shared {shared} of {name} with you, not {request.port}; ask {owner}",
        )
    if isinstance(request, TerminalRequest) and not access.terminal:
        return DialError(
            code=NOT_SHARED, message=f"{owner} has shared {name} with you without a terminal; ask {owner}"
        )
    return None


def _name_ports(ports: str) -> str:
    """Names a set of ports in a sentence."""
    if ports == "none":
        return "no port"
    return f"port {ports}" if ports.isdigit() else f"ports {ports.replace(',', ', ')}"
