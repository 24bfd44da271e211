"""How a WebSocket is opened (RFC 6455, sections 4.1 and 4.2): the client's key, the server's proof, and the fields around them. Pure."""

import base64
import binascii
import hashlib
from typing import Final

from coderd.http.head import RequestHead
from coderd.model import RandomBytes

VERSION: Final = "13"
"""Of the protocol, the only one there is. RFC 6455, section 4.1."""
KEY_SIZE: Final = 16
"""Bytes of a key before base64. RFC 6455, section 4.1."""
_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


def make_key(rng: RandomBytes) -> str:
    """Returns a fresh value for Sec-WebSocket-Key."""
    return base64.b64encode(rng(KEY_SIZE)).decode()


def is_key(key: str) -> bool:
    """Returns whether a client's Sec-WebSocket-Key is valid."""
    try:
        return len(base64.b64decode(key, validate=True)) == KEY_SIZE
    except (binascii.Error, ValueError):
        return False


def accept_proof(key: str) -> str:
    """Returns the Sec-WebSocket-Accept by which a server shows that it has read this key and speaks WebSocket."""
    return base64.b64encode(hashlib.sha1(key.encode() + _ACCEPT_GUID).digest()).decode()


def request_fields(key: str) -> list[str]:
    """Returns the fields of a client's request, without a subprotocol."""
    return [
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Version: {VERSION}",
        f"Sec-WebSocket-Key: {key}",
    ]


def response(key: str, subprotocol: str = "") -> bytes:
    """Returns the answer that opens a WebSocket, without any extension.

    Args:
        key: the client's.
        subprotocol: of those that the client has named; empty for none.
    """
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_proof(key)}",
        *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def is_request(head: RequestHead) -> bool:
    """Returns whether a request can be answered by a WebSocket. RFC 6455, section 4.2.1."""
    return (
        head.method == "GET"
        and head.has_token("upgrade", "websocket")
        and head.has_token("connection", "upgrade")
        and head.field("sec-websocket-version") == VERSION
        and is_key(head.field("sec-websocket-key"))
    )
