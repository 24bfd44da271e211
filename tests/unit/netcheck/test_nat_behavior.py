"""What answers to RFC 5780's questions mean."""

import pytest

from coderd.netcheck.nat_behavior import Filtering, alternates_of, filtering_of
from coderd.stun import Answer

TX, MAPPED, HERE = bytes(12), ("198.51.100.2", 5), ("192.0.2.10", 3478)


@pytest.mark.parametrize(
    ("port", "address", "has_address", "filtering", "by_port"),
    [
        (True, True, True, Filtering.ENDPOINT_INDEPENDENT, False),
        (True, False, True, Filtering.ADDRESS_DEPENDENT, False),
        (False, False, True, Filtering.ADDRESS_AND_PORT_DEPENDENT, True),
        (True, False, False, Filtering.UNKNOWN, False),
        (False, False, False, Filtering.ADDRESS_AND_PORT_DEPENDENT, True),
    ],
)
def test_who_is_let_in_is_the_filtering(
    port: bool, address: bool, has_address: bool, filtering: Filtering, by_port: bool
) -> None:
    found = filtering_of(lets_in_port=port, lets_in_address=address, has_other_address=has_address)
    assert found == (filtering, by_port)


def test_a_server_says_from_where_else_it_can_answer() -> None:
    assert alternates_of(Answer(TX, MAPPED)) == (False, False)
    assert alternates_of(Answer(TX, MAPPED, HERE, ("192.0.2.10", 3479))) == (True, False)
    assert alternates_of(Answer(TX, MAPPED, HERE, ("192.0.2.11", 3479))) == (True, True)
