"""What one end of a tunnel tells the other of its own network.

Enough to say why no direct path opens, and no more. Pure.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

Word = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
"""Printable text of at most 64 characters; shown on terminals as the peer sent it."""
Sentence = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
"""Printable text of at most 256 characters; shown on terminals as the peer sent it."""
Small = Annotated[int, Meta(ge=0, le=65535)]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One end's network, as its netcheck and its sockets show it. Names no address."""

    udp: bool | None = None
    """Whether a STUN server answered by UDP; null where none is offered, or nothing was measured."""
    stun: bool = True
    """Whether the relay map offers any STUN server."""
    nat: bool | None = None
    """Whether addresses are translated on the way out; null where that was not seen."""
    mapping: Word = "unknown"
    """How the mapping depends on the destination, in the words of RFC 4787 §4.1."""
    filtering: Word = "unknown"
    """Whose datagrams the NAT lets in, in the words of RFC 4787 §5.

    Fully known only from a STUN server with two addresses.
    """
    varies: bool | None = None
    """Whether the mapping depends on the destination, on which part of it ever: a hard NAT."""
    ports: Word = "unknown"
    """How such a NAT chooses ports.

    It is ``sequential``, which can be predicted, ``random``, or ``unknown`` while it did not matter.
    """
    endpoints: Small = 0
    """How many addresses it offers to be reached at directly."""
    home: Word = ""
    """Code of its home relay's region."""
    relay: bool = False
    """Whether it is connected to that relay."""
    websocket: Sentence = ""
    """Why it reaches that relay by WebSocket; empty where it does not."""
    blocked: bool = False
    """Whether it may reach the other end by relay only."""
    mtu: Small | None = None
    """MTU of the route to its relay, in bytes, as far as its own host knows."""
    mtu_needed: Small | None = None
    """What its tunnel needs of a direct path, in bytes of IP."""
    carries_full: bool | None = None
    """Whether datagrams of that size were seen to come through, to a STUN server and back."""
    narrow: bool = False
    """Whether the other end answers small datagrams directly, and none of the tunnel's size."""
    server: Word = "unknown"
    """What stands before the server: ``open``, ``forwarded``, ``masked``, ``closed`` or ``unknown``."""
