"""NAT behavior discovery (RFC 5780): what a NAT does that plain STUN cannot tell, and what a path carries.

Pure.

A socket that has sent to one address and port of a server asks to be answered from another of its ports, and
of its addresses (CHANGE-REQUEST, §4.4): who is let in is the NAT's filtering. Another socket sends to where
the first one was seen: if that arrives, the NAT supports hairpinning (§4.5). And a request as large as the
tunnel's own datagrams, answered by a response as large (PADDING, §7.6), shows that such come through.
"""

from dataclasses import dataclass
from enum import Enum

from coderd.stun import Answer


class Filtering(Enum):
    """Whose datagrams a NAT or firewall lets in through an open mapping (RFC 4787 §5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class NatBehavior:
    """What was found out; None is for what could not be."""

    filtering: Filtering = Filtering.UNKNOWN
    filters_by_port: bool | None = None
    """Known from two ports of one server, where the filtering itself takes a second address."""
    hairpin: bool | None = None
    """Whether the NAT returns what is sent to its own outer address (RFC 4787 §6); None also if there is no
    NAT.
    """
    carries_full: bool | None = None
    """Whether datagrams of the tunnel's full size come through to the server and back."""


UNKNOWN_BEHAVIOR = NatBehavior()


def alternates_of(answer: Answer) -> tuple[bool, bool]:
    """Returns whether a server can answer from another port, and another address (RFC 5780 §7.4).

    Its OTHER-ADDRESS says so. A server that names no other port does not support RFC 5780.
    """
    if answer.origin is None or answer.other is None:
        return False, False
    return answer.origin[1] != answer.other[1], answer.origin[0] != answer.other[0]


def filtering_of(
    *, lets_in_port: bool, lets_in_address: bool, has_other_address: bool
) -> tuple[Filtering, bool]:
    """Returns the filtering, and whether it depends on the port (RFC 5780 §4.4).

    Args:
        lets_in_port: an answer from another port came in.
        lets_in_address: an answer from another address did.
        has_other_address: whether an answer from another address was asked for at all.
    """
    if lets_in_address:
        return Filtering.ENDPOINT_INDEPENDENT, False
    if not lets_in_port:
        return Filtering.ADDRESS_AND_PORT_DEPENDENT, True
    return (Filtering.ADDRESS_DEPENDENT if has_other_address else Filtering.UNKNOWN), False
