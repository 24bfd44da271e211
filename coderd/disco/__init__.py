"""Disco: the messages that find and keep direct paths, sealed with NaCl box.

They travel beside WireGuard on the same socket.

message   ping, pong, call-me-maybe: the payloads
box       the packet around a payload: magic, sender, nonce, box
"""

from coderd.disco.box import (
    HEADER_SIZE,
    MAGIC,
    NONCE_SIZE,
    PACKET_OVERHEAD,
    DiscoBox,
    looks_like_disco,
    sender_of,
)
from coderd.disco.message import (
    TX_SIZE,
    CallMeMaybe,
    Message,
    PeerRelayMessage,
    Ping,
    Pong,
    encode_message,
    parse_message,
)

__all__ = [
    "HEADER_SIZE",
    "MAGIC",
    "NONCE_SIZE",
    "PACKET_OVERHEAD",
    "TX_SIZE",
    "CallMeMaybe",
    "DiscoBox",
    "Message",
    "PeerRelayMessage",
    "Ping",
    "Pong",
    "encode_message",
    "looks_like_disco",
    "parse_message",
    "sender_of",
]
