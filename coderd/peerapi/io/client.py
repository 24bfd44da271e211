"""The caller's end of the node API: one line is sent and one is read, whatever is asked for."""

import errno
import socket

import trio

from coderd.netcheck.facts import Facts
from coderd.peerapi.line_reader import LineReader
from coderd.peerapi.message import FactsRequest, Request, encode, parse_dial_reply, parse_facts_reply

CONNECT_RETRY = 1.0
"""Seconds after which a peer is called anew: a path that was lost meanwhile swallows what opens a stream."""


async def ask(stream: trio.SocketStream, request: Request) -> bytes:
    """Sends a request, and reads the reply's line and no byte behind it: those are the service's.

    Raises:
        OSError: the connection broke.
        MalformedPacket: the reply is too long, or ends before its line does.
    """
    reader = LineReader()
    try:
        await stream.send_all(encode(request))
        while reader.line is None:
            seen = await stream.socket.recv(reader.n_missing, socket.MSG_PEEK)
            await stream.socket.recv(reader.take(seen))
    except trio.BrokenResourceError:
        raise ConnectionResetError(errno.ECONNRESET, "the connection broke") from None
    return reader.line


async def open_service(stream: trio.SocketStream, request: Request) -> None:
    """Asks on a connected stream for a service, whose bytes then follow; closes the stream if they do not.

    Raises:
        OSError: the connection broke.
        MalformedPacket: the reply is invalid.
        UserError: the node's own words for its refusal.
    """
    try:
        parse_dial_reply(await ask(stream, request))
    except BaseException:
        stream.socket.close()
        raise


async def ask_facts(address: str, port: int, secret: str = "") -> Facts:
    """Asks a peer's node API for facts, for as long as the caller waits.

    Raises:
        OSError: the peer refused or broke the connection.
        MalformedPacket: the reply holds no facts.
    """
    while True:
        with trio.move_on_after(CONNECT_RETRY):
            stream = await trio.open_tcp_stream(address, port)
            break
    async with stream:
        return parse_facts_reply(await ask(stream, FactsRequest(secret=secret)))
