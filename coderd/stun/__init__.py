"""STUN over UDP, as much of it as finding one's own mapped address takes: Binding requests and their success responses.

message   the codec, both ends
io        the responder that the server runs

Requests leave from the socket that carries WireGuard and disco: the mapping of any other socket is of no use.
"""

from coderd.stun.message import (
    TX_SIZE,
    encode_request,
    encode_response,
    is_stun,
    parse_request,
    parse_response,
)

__all__ = ["TX_SIZE", "encode_request", "encode_response", "is_stun", "parse_request", "parse_response"]
