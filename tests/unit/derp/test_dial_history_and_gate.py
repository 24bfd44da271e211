"""What dialling has taught, and who may come in."""

import pytest

from coderd.derp.dial_history import DETOUR_LIFETIME, FAILURE_LIFETIME, DialHistory
from coderd.derp.dial_plan import dial_plans
from coderd.derp.gate import (
    HANDSHAKES,
    HANDSHAKES_OF_SITE,
    HANDSHAKES_OF_SOURCE,
    HANDSHAKES_PER_SITE,
    HANDSHAKES_PER_SOURCE,
    Gate,
)
from coderd.model.derpmap import DerpNode, DerpRegion
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.origins import Origin

A_KEY = NodePrivate(b"a" * 32).public()
A, B, C = (DerpNode(name, 1, f"{name}.example") for name in "abc")
PLANS = dial_plans(DerpRegion(1, "lab", "Lab", (A, B, C)))


def order(history: DialHistory, now: float) -> str:
    return "".join(plan.node.name for plan in history.in_order(PLANS, now))


def test_nodes_that_failed_come_last_the_earlier_failure_first_until_it_is_old() -> None:
    history = DialHistory()
    assert order(history, 0.0) == "abc"
    history.note_failed(B, 1.0)
    history.note_failed(A, 2.0)
    assert order(history, 3.0) == "cba"
    assert order(history, 1.0 + FAILURE_LIFETIME) == "bca"
    history.note_reached(A)
    assert order(history, 3.0) == "acb"


def test_a_detour_is_remembered_for_its_node_until_it_is_old_or_the_network_another() -> None:
    history = DialHistory()
    history.note_detour(A, "the proxy answered 426 to the upgrade", 5.0)
    assert history.detour(A, 6.0) == "the proxy answered 426 to the upgrade"
    assert history.detour(B, 6.0) == ""
    assert history.detour(A, 5.0 + DETOUR_LIFETIME) == ""
    history.forget()
    assert history.detour(A, 6.0) == ""


def test_what_is_remembered_does_not_grow_with_the_relays_that_ever_were() -> None:
    history = DialHistory()
    for n in range(1000):
        node = DerpNode(str(n), 1, "h")
        history.note_failed(node, n * FAILURE_LIFETIME)
        history.note_detour(node, "why", n * DETOUR_LIFETIME)
    assert len(history._failed_at) == len(history._detours) == 1


def at(address: str) -> Origin:
    return Origin.of(address)


def stranger(number: int) -> Origin:
    """One of very many addresses."""
    return at(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")


def come_and_go(gate: Gate, origin: Origin, now: float, key: NodePublic | None = None) -> bool:
    """A handshake at once; it fails where no key is given."""
    if not gate.enter(origin, now):
        return False
    gate.settle(origin)
    if key is not None:
        gate.admit(origin, key, now)
    gate.leave()
    return True


def flood(gate: Gate, now: float) -> None:
    """Strangers use up everybody's share."""
    number = 0
    while come_and_go(gate, stranger(number // 100), now):
        number += 1
    assert number >= HANDSHAKES.burst - 1


def test_one_source_has_so_many_handshakes_under_way_and_others_are_not_kept_out() -> None:
    gate = Gate(10_000)
    here, there = at("192.0.2.1"), at("192.0.2.2")
    assert all(gate.enter(here, 0.0) for _ in range(HANDSHAKES_PER_SOURCE))
    assert not gate.enter(here, 100.0)
    assert gate.enter(there, 100.0)
    gate.settle(here)
    assert gate.enter(here, 100.0)


def test_one_site_has_so_many_under_way_whichever_of_its_networks_they_come_from() -> None:
    gate = Gate(10_000)
    for number in range(HANDSHAKES_PER_SITE):
        assert gate.enter(at(f"2001:db8:1:{number:x}::1"), number / 10)
    later = HANDSHAKES_PER_SITE / 10
    assert not gate.enter(at("2001:db8:1:ffff::1"), later)
    assert gate.enter(at("2001:db8:2:ffff::1"), later)


def test_only_so_many_connections_are_held() -> None:
    gate = Gate(2)
    for address in ("192.0.2.1", "192.0.2.2"):
        assert gate.enter(at(address), 0.0)
        gate.settle(at(address))
    assert not gate.enter(at("192.0.2.3"), 0.0)
    gate.leave()
    assert gate.enter(at("192.0.2.3"), 0.0)


def test_handshakes_are_bounded_by_time() -> None:
    gate = Gate(10**6)
    n_entered = sum(gate.enter(stranger(n), 0.0) for n in range(int(HANDSHAKES.burst) + 100))
    assert n_entered == HANDSHAKES.burst
    assert gate.enter(at("192.0.2.1"), 1.0)


def test_two_addresses_do_not_use_up_everybodys_share() -> None:
    gate = Gate(10**6)
    for tick in range(1000):
        for address in ("192.0.2.1", "192.0.2.2"):
            for _ in range(10):
                come_and_go(gate, at(address), tick / 100)
    assert come_and_go(gate, at("198.51.100.1"), 10.0)
    assert not come_and_go(gate, at("192.0.2.1"), 10.0)
    assert gate._everybody.level(10.0) > HANDSHAKES.burst / 2


def test_the_networks_of_one_site_do_not_use_up_everybodys_share() -> None:
    gate = Gate(10**6)
    for number in range(10_000):
        come_and_go(gate, at(f"2001:db8:1:{number:x}::1"), 0.0)
    assert gate._everybody.level(0.0) == HANDSHAKES.burst - HANDSHAKES_OF_SITE.burst
    assert not come_and_go(gate, at("2001:db8:1:ffff::1"), 0.0)
    assert come_and_go(gate, at("2001:db8:2::1"), 0.0)


def test_where_a_known_key_came_from_lately_there_is_a_share_that_strangers_cannot_use_up() -> None:
    gate = Gate(10**6)
    home, new = at("198.51.100.1"), at("198.51.100.2")
    assert come_and_go(gate, home, 0.0, A_KEY)
    flood(gate, 1.0)
    assert not come_and_go(gate, new, 1.0)
    assert come_and_go(gate, home, 1.0, A_KEY)
    assert come_and_go(gate, at("2001:db8::1"), 100.0, A_KEY)  # it has moved
    flood(gate, 100.0)
    assert not come_and_go(gate, home, 100.0)
    assert come_and_go(gate, at("2001:db8::2"), 100.0, A_KEY)


def test_behind_one_address_only_those_who_are_not_admitted_count() -> None:
    """A thousand machines behind one proxy come back to a relay that restarts."""
    gate = Gate(10**6)
    office = at("192.0.2.1")
    assert all(come_and_go(gate, office, 0.0, NodePublic(number.to_bytes(32))) for number in range(1000))
    assert gate._everybody.level(0.0) == HANDSHAKES.burst - 1000


def test_a_known_key_that_comes_and_goes_without_pause_counts() -> None:
    gate = Gate(10**6)
    n_entered = sum(come_and_go(gate, at("192.0.2.1"), 0.0, A_KEY) for _ in range(1000))
    assert n_entered == HANDSHAKES_OF_SOURCE.burst + 1


def test_what_the_gate_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coderd.derp.gate.MAX_KNOWN_KEYS", 10)
    gate = Gate(10**6)
    for number in range(100):
        assert come_and_go(gate, stranger(number), float(number), NodePublic(number.to_bytes(32)))
    assert len(gate._admitted) == 10
    assert dict(gate._n_known) == {stranger(number).network: 1 for number in range(90, 100)}
    assert not gate._under_way
