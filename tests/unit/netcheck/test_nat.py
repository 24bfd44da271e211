"""What a report says of the NAT, and what it cannot."""

import pytest

from coderd.model.addresses import AddrPort
from coderd.netcheck import Mapping, Report, mapping_of
from coderd.netcheck.nat import has_nat

HERE, PORT_2, ELSEWHERE = ("192.0.2.10", 3478), ("192.0.2.10", 3479), ("192.0.2.20", 3478)
SEEN, OTHER = ("198.51.100.2", 41641), ("198.51.100.2", 50000)


def report(mappings: dict[AddrPort, AddrPort]) -> Report:
    return Report(0.0, 1.0, global_v4=next(iter(mappings.values()), None), v4_mappings=mappings)


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [
        ({}, Mapping.UNKNOWN),
        ({HERE: SEEN}, Mapping.UNKNOWN),
        ({HERE: SEEN, PORT_2: SEEN}, Mapping.UNKNOWN),
        ({HERE: SEEN, PORT_2: OTHER}, Mapping.ADDRESS_AND_PORT_DEPENDENT),
        ({HERE: SEEN, ELSEWHERE: SEEN}, Mapping.ENDPOINT_INDEPENDENT),
        ({HERE: SEEN, ELSEWHERE: OTHER}, Mapping.UNKNOWN),
        ({HERE: SEEN, PORT_2: SEEN, ELSEWHERE: OTHER}, Mapping.ADDRESS_DEPENDENT),
    ],
)
def test_the_mapping_is_told_only_as_far_as_it_was_seen(
    mappings: dict[AddrPort, AddrPort], expected: Mapping
) -> None:
    assert mapping_of(report(mappings), {"10.0.1.2"}) is expected


def test_an_address_seen_as_it_is_has_no_nat() -> None:
    found = report({HERE: SEEN})
    assert has_nat(found, {"198.51.100.2"}) is False
    assert mapping_of(found, {"198.51.100.2"}) is Mapping.ENDPOINT_INDEPENDENT
    assert has_nat(report({}), {"198.51.100.2"}) is None
