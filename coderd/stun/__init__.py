"""STUN over UDP, as much of it as finding one's own mapped address takes.

That is Binding requests and their success responses.

message    the codec, both ends
allowance  how many answers leave that are larger than their requests
io         the responder that the server runs

Requests leave from the socket that carries WireGuard and disco: the mapping of any other socket is of no use.
Questions about a NAT's behaviour (RFC 5780, as far as one server can answer them) leave from sockets of their
own: netcheck's NAT behavior discovery.
"""

from coderd.stun.message import (
    TX_SIZE,
    Answer,
    Question,
    encode_answer,
    encode_question,
    encode_request,
    encode_response,
    is_stun,
    parse_answer,
    parse_question,
    parse_request,
    parse_response,
)

__all__ = [
    "TX_SIZE",
    "Answer",
    "Question",
    "encode_answer",
    "encode_question",
    "encode_request",
    "encode_response",
    "is_stun",
    "parse_answer",
    "parse_question",
    "parse_request",
    "parse_response",
]
