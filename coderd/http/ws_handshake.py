"""The opening handshake of a WebSocket: key, proof and header fields (RFC 6455 §4). Pure."""

import base64
import binascii
import hashlib
from typing import Final

from coderd.http.head import RequestHead
from coderd.model import RandomBytes

VERSION: Final = "13"
"""The only version of the WebSocket protocol (RFC 6455 §4.1)."""
KEY_SIZE: Final = 16
"""Bytes of a key before base64 (RFC 6455 §4.1)."""
_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""The constant that is hashed behind a key (RFC 6455 §1.3)."""


def make_key(rng: RandomBytes) -> str:
    """Returns a random value for Sec-WebSocket-Key: 16 bytes in base64."""
    return base64.b64encode(rng(KEY_SIZE)).decode()


def is_key(key: str) -> bool:
    """Returns whether a client's Sec-WebSocket-Key is valid: 16 bytes in base64."""
    try:
        return len(base64.b64decode(key, validate=True)) == KEY_SIZE
    except (binascii.Error, ValueError):
        return False


def accept_proof(key: str) -> str:
    """Returns the Sec-WebSocket-Accept that answers a key (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _ACCEPT_GUID).digest()).decode()


def request_fields(key: str) -> list[str]:
    """Returns the header fields of a client's opening request, without a subprotocol."""
    return [
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Version: {VERSION}",
        f"Sec-WebSocket-Key: {key}",
    ]


def response(key: str, subprotocol: str = "") -> bytes:
    """Returns the answer that opens a WebSocket, without extensions (RFC 6455 §4.2.2).

    Args:
        key: the client's Sec-WebSocket-Key.
        subprotocol: one of those that the client has named; empty for none.
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
    """Returns whether a request is a valid opening of a WebSocket (RFC 6455 §4.2.1)."""
    return (
        head.method == "GET"
        and head.has_token("upgrade", "websocket")
        and head.has_token("connection", "upgrade")
        and head.field("sec-websocket-version") == VERSION
        and is_key(head.field("sec-websocket-key"))
    )
