"""The NAT's mapping behavior (RFC 4787), from a netcheck's report. Pure.

Two ports of one address show whether a mapping depends on the port, two addresses whether it depends on the
address. The NAT's filtering cannot be seen: that takes a server to which nothing was ever sent through the
mapping.
"""

from collections.abc import Collection
from enum import Enum
from itertools import combinations

from coderd.netcheck.report import Report


class Mapping(Enum):
    """How the outer address and port of this node depend on whom it sends to (RFC 4787 section 4.1)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    UNKNOWN = "unknown"


def mapping_of(report: Report, addresses: Collection[str]) -> Mapping:
    """Returns the mapping that a report shows.

    Args:
        report: of a finished run.
        addresses: of this host's own interfaces: one that STUN saw unchanged is not translated at all.
    """
    if has_nat(report, addresses) is False:
        return Mapping.ENDPOINT_INDEPENDENT
    pairs = list(combinations(report.v4_mappings.items(), 2))
    by_port = {one[1] == other[1] for one, other in pairs if one[0][0] == other[0][0]}
    by_address = {one[1] == other[1] for one, other in pairs if one[0][0] != other[0][0]}
    if False in by_port:
        return Mapping.ADDRESS_AND_PORT_DEPENDENT
    if False in by_address:
        return Mapping.ADDRESS_DEPENDENT if by_port else Mapping.UNKNOWN
    return Mapping.ENDPOINT_INDEPENDENT if by_address else Mapping.UNKNOWN


def has_nat(report: Report, addresses: Collection[str]) -> bool | None:
    """Returns whether this node's address is translated on its way; None if no STUN server answered."""
    seen = report.global_v4 or report.global_v6
    return None if seen is None else seen[0] not in addresses
