"""The three slots, row by row of the protocol's table, and when a session may still be used."""

import pytest

from coderd.wireguard.keypair import Keypair, KeypairSlots
from coderd.wireguard.noise import TransportKeys
from coderd.wireguard.replay import REJECT_AFTER_MESSAGES
from coderd.wireguard.timers import REKEY_AFTER_MESSAGES

KEYS = TransportKeys(bytes(32), bytes(32))


def keypair(now: float = 0.0, *, is_initiator: bool = True) -> Keypair:
    return Keypair(KEYS, local_index=1, remote_index=2, is_initiator=is_initiator, now=now)


def held(slots: KeypairSlots) -> tuple[Keypair | None, Keypair | None, Keypair | None]:
    return slots.previous, slots.current, slots.next


@pytest.fixture
def slots() -> KeypairSlots:
    made = KeypairSlots()
    made.previous, made.current = keypair(), keypair()
    return made


def test_an_accepted_response_is_sent_on_at_once(slots: KeypairSlots) -> None:
    previous, current, new = slots.previous, slots.current, keypair(120.0)
    assert slots.add_initiated(new) == [previous]
    assert held(slots) == (current, new, None)


def test_a_handshake_that_crosses_keeps_the_peers_session_for_receiving(slots: KeypairSlots) -> None:
    previous, current, theirs, new = slots.previous, slots.current, keypair(120.0), keypair(120.5)
    slots.next = theirs
    assert slots.add_initiated(new) == [previous, current]
    assert held(slots) == (theirs, new, None)
    slots.yield_to_previous()
    assert (slots.previous, slots.current) == (new, theirs)
    slots.yield_to_previous()
    assert (slots.previous, slots.current) == (new, theirs)


def test_a_next_left_over_from_an_older_handshake_gives_way(slots: KeypairSlots) -> None:
    previous, current, stale, new = slots.previous, slots.current, keypair(2.0), keypair(120.0)
    slots.next = stale
    assert slots.add_initiated(new) == [previous, stale]
    assert held(slots) == (current, new, None)


def test_a_response_sent_waits_in_next_for_its_confirmation(slots: KeypairSlots) -> None:
    previous, current, stale, new = slots.previous, slots.current, keypair(), keypair()
    slots.next = stale
    assert slots.add_responded(new) == [stale, previous]
    assert held(slots) == (None, current, new)
    assert slots.confirm_next() == []
    assert held(slots) == (current, new, None)


def test_clearing_destroys_all_there_is(slots: KeypairSlots) -> None:
    everything = [slots.previous, slots.current]
    assert slots.clear() == everything
    assert slots.clear() == []


def test_a_session_sends_for_less_than_three_minutes_and_receives_for_three() -> None:
    session = keypair()
    assert (session.can_send(1, 179.9), session.can_send(1, 180.0)) == (True, False)
    assert (session.can_receive(180.0), session.can_receive(180.1)) == (True, False)


def test_counters_end_before_their_limit() -> None:
    session = keypair()
    session.send_counter = REJECT_AFTER_MESSAGES - 2
    assert (session.can_send(2, 0.0), session.can_send(3, 0.0)) == (True, False)
    session.retire_from_sending()
    assert not session.can_send(1, 0.0)


def test_age_is_the_initiators_business_and_wear_everybodys() -> None:
    ours, theirs = keypair(), keypair(is_initiator=False)
    assert (ours.is_due_for_rekey(120.0), ours.is_due_for_rekey(120.1)) == (False, True)
    assert not theirs.is_due_for_rekey(170.0)
    theirs.send_counter = REKEY_AFTER_MESSAGES + 1
    assert theirs.is_due_for_rekey(0.0)
