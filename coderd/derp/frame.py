"""DERP frames: types, encoders, parsers, and a reader of a byte stream.

Offsets, sizes in bytes, and fields:

    0   1  type
    1   4  length of the payload, big-endian
    5   …  payload

A packet travels to the relay as SendPacket (destination key, packet) and leaves it as RecvPacket (source key,
packet): the lengths are equal, so a relay rewrites 37 bytes in place and leaves the packet as it is. Both
ends ignore frames of unknown types. There is no error frame: an end that finds a violation closes the
connection.
"""

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from coderd.model import Buffer, limits
from coderd.model.errors import MalformedPacket
from coderd.model.keys import KEY_SIZE, NodePublic, ServerPublic

MAGIC: Final = b"DERP\xf0\x9f\x94\x91"
PROTOCOL_VERSION: Final = 2
MAX_PACKET_SIZE: Final = limits.MAX_DERP_PACKET
"""Most bytes of the datagram in SendPacket, RecvPacket or ForwardPacket."""
MAX_FRAME_SIZE: Final = limits.MAX_DERP_FRAME
"""Most bytes of the payload of a frame that is read."""
HEADER: Final = struct.Struct(">BI")
HEADER_SIZE: Final = HEADER.size
KEYED_HEADER_SIZE: Final = HEADER_SIZE + KEY_SIZE
"""Bytes of header and key in front of a relayed packet."""
DISCO_MAGIC: Final = b"TS\xf0\x9f\x92\xac"
MIN_DISCO_SIZE: Final = 62


class FrameType(IntEnum):
    """Types of frames, the first byte of each."""

    SERVER_KEY = 0x01
    CLIENT_INFO = 0x02
    SERVER_INFO = 0x03
    SEND_PACKET = 0x04
    RECV_PACKET = 0x05
    KEEP_ALIVE = 0x06
    NOTE_PREFERRED = 0x07
    PEER_GONE = 0x08
    PEER_PRESENT = 0x09
    FORWARD_PACKET = 0x0A
    WATCH_CONNS = 0x10
    CLOSE_PEER = 0x11
    PING = 0x12
    PONG = 0x13
    HEALTH = 0x14
    RESTARTING = 0x15


class PeerGoneReason(IntEnum):
    """Reasons of a PeerGone frame; a reader passes unknown numbers on."""

    DISCONNECTED = 0x00
    NOT_HERE = 0x01


class Frame(NamedTuple):
    """A received frame: the number of its type, perhaps unknown, and its payload."""

    kind: int
    payload: bytes


class PeerGone(NamedTuple):
    """A PeerGone frame: a peer has left the relay, or a disco message's destination is not connected."""

    key: NodePublic
    reason: int


class Restarting(NamedTuple):
    """A Restarting frame: seconds after which to connect again, and seconds for which to try."""

    reconnect_in: float
    try_for: float


def encode_frame(kind: FrameType, payload: bytes = b"") -> bytes:
    """Encodes a frame of any type: header and payload."""
    return HEADER.pack(kind, len(payload)) + payload


def encode_server_key(key: ServerPublic) -> bytes:
    """Encodes ServerKey, the relay's first frame: magic and public key."""
    return encode_frame(FrameType.SERVER_KEY, MAGIC + key)


def parse_server_key(payload: bytes) -> ServerPublic:
    """Parses ServerKey's payload and returns the relay's public key; later bytes are ignored.

    Raises: MalformedPacket.
    """
    if not 40 <= len(payload) <= 1024 or not payload.startswith(MAGIC):
        raise MalformedPacket("not a DERP relay: its first frame lacks the magic")
    return ServerPublic(payload[8:40])


def encode_send_packets(to: NodePublic, packets: Sequence[Buffer]) -> bytes:
    """Encodes packets for one destination as SendPacket frames, joined for one write.

    Packets of one size, the last of any, cost one join. Raises ValueError on a packet above
    ``MAX_PACKET_SIZE``.
    """
    if not packets:
        return b""
    size = len(packets[0])
    if any(len(packet) != size for packet in packets[:-1]):
        return b"".join(encode_send_packets(to, (packet,)) for packet in packets)
    last_size = len(packets[-1])
    if max(size, last_size) > MAX_PACKET_SIZE:
        raise ValueError(f"a relayed packet has at most {MAX_PACKET_SIZE} bytes, not {max(size, last_size)}")
    head = HEADER.pack(FrameType.SEND_PACKET, KEY_SIZE + size) + to
    if last_size == size:
        return head + head.join(packets)
    last_head = HEADER.pack(FrameType.SEND_PACKET, KEY_SIZE + last_size) + to
    return b"".join((head, head.join(packets[:-1]), last_head, packets[-1]))


def encode_note_preferred(is_home: bool) -> bytes:
    """Encodes NotePreferred: whether the relay is the client's home."""
    return encode_frame(FrameType.NOTE_PREFERRED, b"\x01" if is_home else b"\x00")


def encode_peer_gone(key: NodePublic, reason: PeerGoneReason) -> bytes:
    """Encodes PeerGone: a peer's key and the reason."""
    return encode_frame(FrameType.PEER_GONE, key + bytes((reason,)))


def parse_peer_gone(payload: bytes) -> PeerGone:
    """Parses PeerGone's payload; an old relay's has no reason, read as DISCONNECTED.

    Raises MalformedPacket.
    """
    if len(payload) < KEY_SIZE:
        raise MalformedPacket(f"PeerGone of {len(payload)} bytes")
    reason = payload[KEY_SIZE] if len(payload) > KEY_SIZE else PeerGoneReason.DISCONNECTED
    return PeerGone(NodePublic(payload[:KEY_SIZE]), reason)


def encode_restarting(restarting: Restarting) -> bytes:
    """Encodes Restarting, with both durations in milliseconds."""
    payload = struct.pack(">II", round(restarting.reconnect_in * 1000), round(restarting.try_for * 1000))
    return encode_frame(FrameType.RESTARTING, payload)


def parse_restarting(payload: bytes) -> Restarting:
    """Parses Restarting's payload into seconds. Raises MalformedPacket."""
    if len(payload) < 8:
        raise MalformedPacket(f"Restarting of {len(payload)} bytes")
    reconnect_in, try_for = struct.unpack_from(">II", payload)
    return Restarting(reconnect_in / 1000, try_for / 1000)


class FrameReader:
    """A reader of a byte stream, given in pieces of any size, that yields whole frames.

    The hot paths of client and relay read ``buffer`` themselves and ``consume`` the bytes that they have
    handled.

    Args:
        max_size: most bytes of a payload.
    """

    def __init__(self, max_size: int = MAX_FRAME_SIZE) -> None:
        self.buffer = bytearray()
        self._max_size = max_size

    def feed(self, data: Buffer) -> None:
        """Appends received bytes to the buffer."""
        self.buffer += data

    def consume(self, n_bytes: int) -> None:
        """Removes the first bytes of the buffer."""
        del self.buffer[:n_bytes]

    def has_frame(self) -> bool:
        """Returns whether the buffer begins with a whole frame.

        Raises MalformedPacket on an oversized one.
        """
        if len(self.buffer) < HEADER_SIZE:
            return False
        kind: int
        length: int
        kind, length = HEADER.unpack_from(self.buffer)
        check_size(kind, length, self._max_size)
        return len(self.buffer) >= HEADER_SIZE + length

    def next_frame(self) -> Frame | None:
        """Removes and returns the next whole frame, or None. Raises MalformedPacket on an oversized one."""
        if not self.has_frame():
            return None
        kind, length = HEADER.unpack_from(self.buffer)
        end = HEADER_SIZE + length
        frame = Frame(kind, bytes(self.buffer[HEADER_SIZE:end]))
        self.consume(end)
        return frame

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.next_frame()) is not None:
            yield frame


def check_size(kind: int, length: int, max_size: int = MAX_FRAME_SIZE) -> None:
    """Checks the length in a frame's header. Raises MalformedPacket if it is more than ``max_size`` bytes."""
    if length > max_size:
        raise MalformedPacket(f"frame of type {kind:#x} with {length} bytes, at most {max_size} are taken")
