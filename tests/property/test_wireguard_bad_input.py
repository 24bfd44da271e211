"""What was tampered with is dropped, counted under its reason and never answered.

What travelled beside it arrives.
"""

from collections import Counter
from ipaddress import ip_address, ip_network
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from coderd.wireguard.cookie import CookieChecker
from coderd.wireguard.message import INITIATION, INITIATION_SIZE, RESPONSE, TRANSPORT
from tests.unit.wireguard.support import Pair, Source, feed, packet, take_datagrams, take_events, take_packets

MAC2_SIZE = 16
MALLORY = Source(b"\x0a\x00\x00\x63\x10\x01")


def drops(pair: Pair) -> Counter[str]:
    counters = pair.b._counters + pair.a._counters
    return Counter({key: n for key, n in counters.items() if key.startswith("wireguard.drop.")})


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(
    sizes=st.lists(st.integers(24, 1420), min_size=1, max_size=12),
    where=st.integers(0, 2**32),
)
def test_a_bit_flipped_anywhere_in_a_sealed_batch_costs_that_packet_alone(
    sizes: list[int], where: int
) -> None:
    pair = Pair()
    pair.connect()
    packets = [packet("10.77.0.1", "10.77.0.2", size) for size in sizes]
    pair.a_sends(*packets)
    datagrams = take_datagrams(pair.a)
    victim = where % len(datagrams)
    bit = where // len(datagrams) % (8 * len(datagrams[victim]))
    datagrams[victim] = flipped(datagrams[victim], bit)
    feed(pair.b, [memoryview(each) for each in datagrams], pair.source_a)
    assert take_packets(pair.b) == packets[:victim] + packets[victim + 1 :]
    assert take_datagrams(pair.b) == []
    reason = "malformed" if bit < 32 else "unknown_index" if bit < 64 else "forged"
    assert drops(pair) == {f"wireguard.drop.{reason}": 1}


@given(bit=st.integers(0, 8 * (INITIATION_SIZE - MAC2_SIZE) - 1))
def test_an_initiation_with_a_bit_flipped_is_not_answered(bit: int) -> None:
    pair = Pair()
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    (initiation,) = take_datagrams(pair.a)
    feed(pair.b, [flipped(initiation, bit)], pair.source_a)
    assert (take_datagrams(pair.b), take_events(pair.b)) == ([], [])
    assert drops(pair) == {f"wireguard.drop.{'malformed' if bit < 32 else 'mac1'}": 1}
    feed(pair.b, [initiation], pair.source_a)
    assert len(take_datagrams(pair.b)) == 1


@given(bit=st.integers(0, 8 * (92 - MAC2_SIZE) - 1))
def test_a_response_with_a_bit_flipped_spoils_nothing(bit: int) -> None:
    pair = Pair()
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    feed(pair.b, take_datagrams(pair.a), pair.source_a)
    (response,) = take_datagrams(pair.b)
    feed(pair.a, [flipped(response, bit)], pair.source_b)
    assert (take_datagrams(pair.a), take_events(pair.a)) == ([], [])
    assert drops(pair) == {f"wireguard.drop.{'malformed' if bit < 32 else 'mac1'}": 1}
    feed(pair.a, [response], pair.source_b)
    pair.carry()
    assert take_packets(pair.b) == [packet("10.77.0.1", "10.77.0.2")]


@given(bit=st.integers(0, 64 * 8 - 1))
def test_a_cookie_reply_with_a_bit_flipped_gives_no_cookie(bit: int) -> None:
    pair = Pair()
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    (initiation,) = take_datagrams(pair.a)
    assert pair.b.public_key is not None
    checker = CookieChecker(pair.b.public_key, Random(1).randbytes)
    reply = checker.create_reply(initiation, pair.source_a.cookie_bytes, 0.0)
    feed(pair.a, [flipped(reply, bit)], pair.source_b)
    reason = "malformed" if bit < 32 else "unknown_index" if bit < 64 else "cookie_reply"
    assert drops(pair) == {f"wireguard.drop.{reason}": 1}
    pair.tick(6.0)
    (again,) = take_datagrams(pair.a)
    assert again[-MAC2_SIZE:] == bytes(MAC2_SIZE)


@given(cut=st.integers(1, 1500), kind=st.sampled_from([INITIATION, RESPONSE, TRANSPORT]))
def test_what_is_cut_short_is_dropped(cut: int, kind: int) -> None:
    pair = Pair()
    pair.a_sends(packet("10.77.0.1", "10.77.0.2", 1420))
    receiver = pair.b
    sent = take_datagrams(pair.a)
    if kind != INITIATION:
        feed(pair.b, sent, pair.source_a)
        sent, receiver = take_datagrams(pair.b), pair.a
    if kind == TRANSPORT:
        feed(pair.a, sent, pair.source_b)
        sent, receiver = take_datagrams(pair.a), pair.b
    assert sent[0][0] == kind
    take_events(receiver)
    feed(receiver, [sent[0][: -1 - cut % len(sent[0])]], MALLORY)
    assert (take_datagrams(receiver), take_packets(receiver), take_events(receiver)) == ([], [], [])
    assert drops(pair).total() == 1


@given(st.lists(st.sampled_from(range(6)), min_size=1, max_size=20))
def test_reflected_datagrams_reach_nobody(order: list[int]) -> None:
    pair = Pair()
    pair.connect()
    pair.a_sends(*[packet("10.77.0.1", "10.77.0.2", 40 + n) for n in range(5)])
    pair.a.initiate(pair.key_b.public(), 0.0, pair.unix, force=True)
    own = take_datagrams(pair.a)
    feed(pair.a, [own[n] for n in order], pair.source_b)
    assert (take_datagrams(pair.a), take_packets(pair.a), take_events(pair.a)) == ([], [], [])
    assert drops(pair).total() == len(order)


@given(source=st.binary(min_size=1, max_size=18), size=st.integers(24, 1420))
def test_an_inner_source_that_is_not_the_peers_never_comes_out(source: bytes, size: int) -> None:
    pair = Pair()
    pair.connect()
    claimed = (source * 4)[:4]
    genuine = packet("10.77.0.1", "10.77.0.2", size)
    pair.a_sends(genuine[:12] + claimed + genuine[16:])
    feed(pair.b, take_datagrams(pair.a), pair.source_a)
    is_true = claimed == genuine[12:16]
    assert len(take_packets(pair.b)) == is_true
    assert drops(pair) == ({} if is_true else {"wireguard.drop.foreign_source": 1})


OWN = "fd60:627a:a42b::2"
destinations = st.sampled_from([OWN, "::1", "fd00::1", "ff02::1", "2001:db8::1", "fd60:627a:a42b::3"])


@given(st.lists(st.tuples(destinations, st.integers(60, 64)), min_size=1, max_size=12))
def test_only_what_is_for_this_nodes_own_address_comes_out(sent: list[tuple[str, int]]) -> None:
    """Packets of one flow label and size to many addresses.

    Nothing in the run before may decide about the next.
    """
    pair = Pair()
    pair.connect()
    pair.a.set_peer(pair.key_b.public(), 0.0, allowed_ips=[ip_network("::/0")])
    pair.b.set_peer(pair.key_a.public(), 0.0, allowed_ips=[ip_network("fd60:627a:a42b::1/128")])
    pair.b.set_own_address(ip_address(OWN).packed)
    for to, size in sent:
        pair.a_sends(packet("fd60:627a:a42b::1", to, size))
    feed(pair.b, take_datagrams(pair.a), pair.source_a)
    taken = take_packets(pair.b)
    assert [(bytes(each[24:40]), len(each)) for each in taken] == [
        (ip_address(OWN).packed, size) for to, size in sent if to == OWN
    ]
    n_others = sum(to != OWN for to, _ in sent)
    assert drops(pair) == ({"wireguard.drop.other_destination": n_others} if n_others else {})


def test_a_node_with_an_address_of_its_own_takes_no_ipv4_out_of_a_tunnel() -> None:
    pair = Pair()
    pair.connect()
    pair.b.set_own_address(ip_address(OWN).packed)
    pair.a_sends(packet("10.77.0.1", "10.77.0.2"))
    feed(pair.b, take_datagrams(pair.a), pair.source_a)
    assert take_packets(pair.b) == []
    assert drops(pair) == {"wireguard.drop.other_destination": 1}
