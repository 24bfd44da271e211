"""The small parts: peer map, pings in flight, timers, classification."""

from collections.abc import Iterator

from coderd.disco import MAGIC
from coderd.magicsock.candidates import MOST_NAMED, valid_addresses
from coderd.magicsock.classify import Kind, classify
from coderd.magicsock.peer_map import PeerMap
from coderd.magicsock.pings import Pings, Purpose, SentPing
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.stun import encode_request

ALICE, BOB = NodePublic(b"a" * 32), NodePublic(b"b" * 32)
ONE, TWO = DiscoPublic(b"1" * 32), DiscoPublic(b"2" * 32)
ADDR = ("198.51.100.1", 1)


def test_a_datagram_is_told_by_its_first_bytes() -> None:
    assert classify(encode_request(bytes(12))) is Kind.STUN
    assert classify(MAGIC + bytes(32)) is Kind.DISCO
    assert classify(MAGIC + bytes(31)) is Kind.WIREGUARD
    assert classify(b"\x04\0\0\0" + bytes(28)) is Kind.WIREGUARD
    assert classify(b"\x01\0\0\0" + bytes(144)) is Kind.WIREGUARD
    assert classify(b"") is Kind.WIREGUARD


def test_a_disco_key_may_be_two_nodes() -> None:
    peers = PeerMap()
    peers.set_peer(ALICE, ONE)
    peers.set_peer(BOB, ONE)
    assert peers.nodes_of(ONE) == (ALICE, BOB)
    peers.set_peer(ALICE, TWO)
    assert (peers.nodes_of(ONE), peers.nodes_of(TWO), peers.disco_of(ALICE)) == ((BOB,), (ALICE,), TWO)


def test_an_address_has_one_peer_the_last_that_proved_it() -> None:
    peers = PeerMap()
    peers.set_peer(ALICE, ONE)
    peers.set_peer(BOB, TWO)
    peers.learn_address(ADDR, ALICE)
    peers.learn_address(ADDR, BOB)
    assert peers.node_at(ADDR) == BOB
    peers.remove_peer(ALICE)
    assert peers.node_at(ADDR) == BOB
    peers.remove_peer(BOB)
    assert peers.node_at(ADDR) is None


def test_a_stranger_has_no_address() -> None:
    peers = PeerMap()
    peers.learn_address(ADDR, ALICE)
    assert peers.node_at(ADDR) is None


def test_addresses_of_a_peer_are_bounded() -> None:
    peers = PeerMap()
    peers.set_peer(ALICE, ONE)
    for port in range(1, 1000):
        peers.learn_address(("198.51.100.1", port), ALICE)
    assert peers.node_at(("198.51.100.1", 1)) is None
    assert peers.node_at(("198.51.100.1", 999)) == ALICE


def test_pings_expire_after_five_seconds_in_order() -> None:
    pings = Pings()
    for n in range(3):
        pings.add(SentPing(bytes([n]), ADDR, 100.0 + n, Purpose.DISCOVERY, 1312))
    assert pings.expires_at() == 105.0
    assert [ping.at for ping in pings.pop_expired(106.0)] == [100.0, 101.0]
    assert pings.pop(bytes([2])) is not None
    assert pings.expires_at() is None


def test_pings_in_flight_are_bounded() -> None:
    pings = Pings()
    for n in range(5000):
        pings.add(SentPing(n.to_bytes(12, "big"), ADDR, 100.0, Purpose.USER, 124, token=1))
    assert len(pings) == 1024


def test_an_endless_list_of_addresses_is_not_read_to_its_end() -> None:
    n_read = 0

    def endless() -> Iterator[tuple[str, int]]:
        nonlocal n_read
        while True:
            n_read += 1
            yield ("203.0.113.7", 0) if n_read % 2 else ("203.0.113.7", n_read)

    assert len(valid_addresses(endless())) == MOST_NAMED
    assert n_read <= 2 * MOST_NAMED
