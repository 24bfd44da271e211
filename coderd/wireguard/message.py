"""Layout of the messages on the wire. WireGuard paper §5.4.

Integers are little-endian; bytes 1..3 are zero, so the first four bytes read as one u32, the type.

Type 1, initiation, 148 bytes:        Type 2, response, 92 bytes:
```
   0   4  1                              0   4  2
   4   4  sender index                   4   4  sender index
   8  32  ephemeral public key           8   4  receiver index
  40  48  AEAD(static public key)       12  32  ephemeral public key
  88  28  AEAD(TAI64N timestamp)        44  16  AEAD(nothing)
 116  16  MAC1 over 0..115              60  16  MAC1 over 0..59
 132  16  MAC2 over 0..131, or zeros    76  16  MAC2 over 0..75, or zeros
```
Type 3, cookie reply, 64 bytes:       Type 4, transport data, 32 bytes or more:
```
   0   4  3                              0   4  4
   4   4  receiver index                 4   4  receiver index
   8  24  nonce                          8   8  counter
  32  32  XAEAD(cookie)                 16 n+16 AEAD(padded inner packet)
```
"""

import struct
from typing import NamedTuple, TypeAlias

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket

INITIATION = 1
RESPONSE = 2
COOKIE_REPLY = 3
TRANSPORT = 4

MAC_SIZE = 16
MACS_SIZE = 2 * MAC_SIZE
INITIATION_SIZE = 4 + 4 + 32 + 48 + 28 + MACS_SIZE
RESPONSE_SIZE = 4 + 4 + 4 + 32 + 16 + MACS_SIZE
COOKIE_REPLY_SIZE = 4 + 4 + 24 + 32
TRANSPORT_HEADER_SIZE = 4 + 4 + 8
TRANSPORT_MIN_SIZE = TRANSPORT_HEADER_SIZE + 16
DATA_OVERHEAD = TRANSPORT_MIN_SIZE
"""Bytes that a transport message adds to its packet: a path must carry UDP payloads of the tunnel's MTU and
this. WireGuard paper §5.4.6."""

_INITIATION = struct.Struct("<II32s48s28s")
_RESPONSE = struct.Struct("<III32s16s")
_COOKIE_REPLY = struct.Struct("<II24s32s")


class Initiation(NamedTuple):
    """Handshake initiation (type 1) without its MACs. WireGuard paper §5.4.2."""

    sender: int
    ephemeral: bytes
    encrypted_static: bytes
    encrypted_timestamp: bytes

    def encode(self) -> bytes:
        """Encodes the message up to MAC1: 116 bytes."""
        return _INITIATION.pack(INITIATION, *self)


class Response(NamedTuple):
    """Handshake response (type 2) without its MACs. WireGuard paper §5.4.3."""

    sender: int
    receiver: int
    ephemeral: bytes
    encrypted_nothing: bytes

    def encode(self) -> bytes:
        """Encodes the message up to MAC1: 60 bytes."""
        return _RESPONSE.pack(RESPONSE, *self)


class CookieReply(NamedTuple):
    """Cookie reply (type 3). WireGuard paper §5.4.7."""

    receiver: int
    nonce: bytes
    encrypted_cookie: bytes

    def encode(self) -> bytes:
        """Encodes the whole message: 64 bytes."""
        return _COOKIE_REPLY.pack(COOKIE_REPLY, *self)


HandshakeMessage: TypeAlias = Initiation | Response | CookieReply


def parse_handshake(data: Buffer) -> HandshakeMessage:
    """Parses a message of type 1, 2 or 3, without checking its MACs.

    Raises:
        MalformedPacket: the type is another, a reserved byte is not zero, or the size is not exactly the
            type's.
    """
    kind = int.from_bytes(data[:4], "little")
    size = len(data)
    if kind == INITIATION and size == INITIATION_SIZE:
        return Initiation(*_INITIATION.unpack_from(data)[1:])
    if kind == RESPONSE and size == RESPONSE_SIZE:
        return Response(*_RESPONSE.unpack_from(data)[1:])
    if kind == COOKIE_REPLY and size == COOKIE_REPLY_SIZE:
        return CookieReply(*_COOKIE_REPLY.unpack_from(data)[1:])
    raise MalformedPacket(f"not a handshake message: type {kind}, {size} bytes")
