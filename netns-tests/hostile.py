"""What somebody sends who means ill or speaks something else.

Datagrams and streams for every socket there is.
"""

import base64
import hashlib
import json
import os
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lab import Host

WS_TEXT, WS_BINARY, WS_CLOSE = 1, 2, 8
DISCO_MAGIC = b"TS\xf0\x9f\x92\xac"
STUN_COOKIE = bytes.fromhex("2112a442")


def noise(n_bytes: int, seed: int = 0) -> bytes:
    """The same bytes for the same seed."""
    return random.Random(seed).randbytes(n_bytes)


def initiation(receiver: bytes, seed: int) -> bytes:
    """A WireGuard initiation whose MAC1 is right, as anybody can make who knows the receiver's public key."""
    message = b"\x01\0\0\0" + noise(112, seed)
    key = hashlib.blake2s(b"mac1----" + receiver).digest()
    return message + hashlib.blake2s(message, digest_size=16, key=key).digest() + bytes(16)


def datagrams(receiver: bytes) -> dict[str, list[bytes]]:
    """Hostile datagrams for a node's UDP port, by the counter that each of a list must raise."""
    return {
        "wireguard.drop.malformed": [
            b"\x01",
            *(b"\x09" + noise(size, size) for size in range(0, 1400, 7)),
            b"\x01\0\0\0" + noise(100),
            b"\x01\0\0\0" + noise(145),
            b"\x02\0\0\0" + noise(87),
            b"\x04\0\0\0" + noise(20),
            b"\x04\xff\0\0" + noise(60),
        ],
        "wireguard.drop.mac1": [b"\x01\0\0\0" + noise(144, seed) for seed in range(50)]
        + [b"\x02\0\0\0" + noise(88, seed) for seed in range(50)],
        "wireguard.drop.unknown_index": [
            *(b"\x04\0\0\0" + noise(12 + 16 * n, n) for n in range(1, 60)),
            *(b"\x03\0\0\0" + noise(60, seed) for seed in range(10)),
        ],
        "wireguard.drop.handshake_refused": [initiation(receiver, 1)],
        "magicsock.drop.disco_unknown_key": [
            DISCO_MAGIC + noise(size, size) for size in (32, 56, 72, 200, 1300)
        ],
        "magicsock.drop.stun": [
            b"\x01\x01\0\0" + STUN_COOKIE + noise(12),
            b"\x01\x01\xff\xff" + STUN_COOKIE + noise(12),
            b"\x01\x01\0\x0c" + STUN_COOKIE + noise(24),
            b"\0\x01\0\0" + STUN_COOKIE + noise(12),
        ],
    }


STUN_REQUESTS = [
    b"",
    b"\0",
    noise(20),
    noise(1400),
    b"\0\x01\0\0" + STUN_COOKIE,
    b"\0\x01\xff\xfc" + STUN_COOKIE + noise(12),
    b"\0\x01\0\x04" + STUN_COOKIE + noise(12) + b"\x80\x22\xff\xff",
    b"\x01\x01\0\0" + STUN_COOKIE + noise(12),
]
"""None of them is a Binding request."""

HEADS = [
    noise(4000),
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + noise(505),
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    b"POST /api/v1/workspaces HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/v1/workspaces HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /api/v1/workspaces HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    b"GET /api/v1/../../../etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /api/v1/workspaces/%00%ff%2e%2e HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /api/v1/coordinate HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
"""First words on the server's port that deserve a refusal or silence, and nothing worse."""

LINES = [
    b"nonsense\n",
    b"{}\n",
    b"[]\n",
    b"null\n",
    noise(3000).replace(b"\n", b"") + b"\n",
    b'{"v":1,"id":1,"method":"dance","params":{}}\n',
    b'{"v":99,"id":1,"method":"status","params":{}}\n',
    b'{"v":1,"id":"one","method":"status","params":{}}\n',
    b'{"v":1,"id":1,"method":"ping","params":{"peer":7}}\n',
    b'{"v":1,"id":1,"method":"ping","params":{"peer":"dev","count":-1}}\n',
    b'{"v":1,"id":1,"method":"ping","params":{"peer":"dev","timeout_s":1e999}}\n',
    b"[" * 100_000 + b"\n",
]
"""Requests on a control socket that each get one error."""

MESSAGES: list[str | bytes] = [
    "",
    "nonsense",
    "[" * 20_000,
    "{}",
    '{"type":"dance"}',
    '{"type":"hello"}',
    '{"type":"hello","version":1,"node_key":"x","disco_key":"y","generation":-1,"proof":""}',
    json.dumps(
        {
            "type": "hello",
            "version": 1,
            "node_key": "nodekey:" + "11" * 32,
            "disco_key": "discokey:" + "22" * 32,
            "generation": 7,
            "proof": "33" * 100,
        }
    ),
    '{"type":"update","home_region":999}',
    "x" * 70_000,
    "x" * 3_000_000,
    b"\0binary\xff",
]
"""First words of a node that none may begin with; the hello in it is well formed but proves nothing."""


@contextmanager
def tcp(host: Host, address: str, port: int) -> Iterator[socket.socket]:
    """A TCP connection from a host, opened in this very process."""
    with host.network():
        connection = socket.create_connection((address, port), timeout=20)
    with connection:
        yield connection


def answer_to(connection: socket.socket, words: bytes, *, then_end: bool = True) -> bytes:
    """Say this, end our half if asked to, and read until the other side closes. A reset is an end as well."""
    answer = bytearray()
    try:
        connection.sendall(words)
        if then_end:
            connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(1 << 16):
            answer += data
    except (ConnectionResetError, BrokenPipeError):
        pass
    return bytes(answer)


def websocket(connection: socket.socket, path: str, token: str) -> bytes:
    """Ask for a WebSocket; the answer's head, read no further."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    connection.sendall(head.encode())
    answer = bytearray()
    while not answer.endswith(b"\r\n\r\n") and (byte := connection.recv(1)):
        answer += byte
    return bytes(answer)


def websocket_frame(message: str | bytes) -> bytes:
    """One whole message as a client frames it."""
    payload = message.encode() if isinstance(message, str) else message
    opcode = WS_TEXT if isinstance(message, str) else WS_BINARY
    if len(payload) < 126:
        size = struct.pack("!B", 0x80 | len(payload))
    elif len(payload) < 1 << 16:
        size = struct.pack("!BH", 0x80 | 126, len(payload))
    else:
        size = struct.pack("!BQ", 0x80 | 127, len(payload))
    return struct.pack("!B", 0x80 | opcode) + size + bytes(4) + payload  # a mask of zeroes leaves it as it is


def websocket_messages(connection: socket.socket, frame: bytes) -> Iterator[bytes]:
    """Send a frame; what the server says until it closes, by a frame or without a word."""
    with connection.makefile("rb") as stream:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(frame)
        with suppress(ConnectionResetError):
            while (head := stream.read(2)) and head[0] & 0x0F != WS_CLOSE:
                size = head[1]
                if size >= 126:
                    size = int.from_bytes(stream.read(2 if size == 126 else 8))
                yield stream.read(size)
