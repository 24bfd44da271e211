"""What dialling has taught, and who may come in."""

import pytest

from coderd.derp.dial_plan import dial_plans
from coderd.derp.gate import HANDSHAKE_BURST, HANDSHAKES_PER_SOURCE, Gate, source_of
from coderd.derp.ways import DETOUR_LIFETIME, FAILURE_LIFETIME, Ways
from coderd.model.derpmap import DerpNode, DerpRegion

A, B, C = (DerpNode(name, 1, f"{name}.example") for name in "abc")
PLANS = dial_plans(DerpRegion(1, "lab", "Lab", (A, B, C)))


def order(ways: Ways, now: float) -> str:
    return "".join(plan.node.name for plan in ways.in_order(PLANS, now))


def test_nodes_that_failed_come_last_the_earlier_failure_first_until_it_is_old() -> None:
    ways = Ways()
    assert order(ways, 0.0) == "abc"
    ways.note_failed(B, 1.0)
    ways.note_failed(A, 2.0)
    assert order(ways, 3.0) == "cba"
    assert order(ways, 1.0 + FAILURE_LIFETIME) == "bca"
    ways.note_reached(A)
    assert order(ways, 3.0) == "acb"


def test_a_detour_is_remembered_for_its_node_until_it_is_old_or_the_network_another() -> None:
    ways = Ways()
    ways.note_detour(A, "the proxy answered 426 to the upgrade", 5.0)
    assert ways.detour(A, 6.0) == "the proxy answered 426 to the upgrade"
    assert ways.detour(B, 6.0) == ""
    assert ways.detour(A, 5.0 + DETOUR_LIFETIME) == ""
    ways.forget()
    assert ways.detour(A, 6.0) == ""


def test_what_is_remembered_does_not_grow_with_the_relays_that_ever_were() -> None:
    ways = Ways()
    for n in range(1000):
        node = DerpNode(str(n), 1, "h")
        ways.note_failed(node, n * FAILURE_LIFETIME)
        ways.note_detour(node, "why", n * DETOUR_LIFETIME)
    assert len(ways._failed_at) == len(ways._detours) == 1


def test_one_source_has_so_many_handshakes_under_way_and_others_are_not_kept_out() -> None:
    gate = Gate(10_000, 0.0)
    assert all(gate.enter("here", 0.0) for _ in range(HANDSHAKES_PER_SOURCE))
    assert not gate.enter("here", 0.0)
    assert gate.enter("there", 0.0)
    gate.settle("here")
    assert gate.enter("here", 0.0)


def test_only_so_many_connections_are_held() -> None:
    gate = Gate(2, 0.0)
    for source in ("a", "b"):
        assert gate.enter(source, 0.0)
        gate.settle(source)
    assert not gate.enter("c", 0.0)
    gate.leave()
    assert gate.enter("c", 0.0)


def test_handshakes_are_bounded_by_time() -> None:
    gate = Gate(10**6, 0.0)
    n_entered = 0
    for n in range(int(HANDSHAKE_BURST) + 100):
        n_entered += gate.enter(str(n), 0.0)
    assert n_entered == HANDSHAKE_BURST
    assert gate.enter("later", 1.0)


@pytest.mark.parametrize(
    ("ip", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_network_of_one_link(
    ip: str, other: str, is_same: bool
) -> None:
    assert (source_of(ip) == source_of(other)) is is_same
