"""What a NAT does that plain STUN cannot tell, and what a path carries: questions of RFC 5780, and what their answers mean. Pure.

A socket that has sent to one address and port of a server asks to be answered from another of its ports, and of its
addresses: who is let in is the NAT's filtering. Another socket sends to where the first one was seen: if that arrives, the
NAT turns hairpins around. And a question as large as the tunnel's own datagrams, answered by one as large, shows that
such come through.
"""

from dataclasses import dataclass
from enum import Enum

from coderd.stun import Answer


class Filtering(Enum):
    """Whose datagrams a NAT or firewall lets in through an open mapping (RFC 4787 section 5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found out; None is for what could not be."""

    filtering: Filtering = Filtering.UNKNOWN
    filters_by_port: bool | None = None
    """Known from two ports of one server, where the filtering itself takes a second address."""
    hairpin: bool | None = None
    """Whether the NAT turns around what is sent to its own outer address; None also where there is no NAT."""
    carries_full: bool | None = None
    """Whether datagrams of the tunnel's full size come through to the server and back."""


NOT_EXAMINED = Examination()


def other_places(answer: Answer) -> tuple[bool, bool]:
    """Whether a server can answer from another port, and from another address; if from no port, it knows no such questions."""
    if answer.origin is None or answer.other is None:
        return False, False
    return answer.origin[1] != answer.other[1], answer.origin[0] != answer.other[0]


def filtering_of(
    *, lets_in_port: bool, lets_in_address: bool, has_other_address: bool
) -> tuple[Filtering, bool]:
    """The filtering, and whether it depends on the port.

    Args:
        lets_in_port: an answer from another port came in.
        lets_in_address: one from another address did.
        has_other_address: whether such was asked for at all.
    """
    if lets_in_address:
        return Filtering.ENDPOINT_INDEPENDENT, False
    if not lets_in_port:
        return Filtering.ADDRESS_AND_PORT_DEPENDENT, True
    return (Filtering.ADDRESS_DEPENDENT if has_other_address else Filtering.UNKNOWN), False
