"""What the outer header says of the inner one, and the other way round."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.packet.checksum import checksum
from coderd.wireguard.ecn import CE, HANDSHAKE_TOS, ecn_of, outer_tos, with_congestion
from tests.unit.wireguard.support import (
    Pair,
    packet,
    take_datagrams,
    take_packets,
    take_transmits,
)

NOT_ECT, ECT_1, ECT_0 = 0, 1, 2
ADDRESSES = {4: ("10.77.0.1", "10.77.0.2"), 6: ("fd77::1", "fd77::2")}


def marked(version: int, ecn: int, dscp: int = 0, size: int = 100) -> bytes:
    made = bytearray(packet(*ADDRESSES[version], size=size))
    tos = dscp << 2 | ecn
    if version == 4:
        made[1] = tos
        made[10:12] = checksum(made[:20]).to_bytes(2, "big")
    else:
        made[0] |= tos >> 4
        made[1] |= (tos & 15) << 4
    return bytes(made)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("inner", "outer"), [(NOT_ECT, 0), (ECT_1, 1), (ECT_0, 2), (CE, 2)])
def test_congestion_bits_go_out_but_a_mark_does_not_and_neither_does_the_class(
    version: int, inner: int, outer: int
) -> None:
    assert outer_tos(marked(version, inner, dscp=46)) == outer


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("inner", "becomes"), [(NOT_ECT, NOT_ECT), (ECT_1, CE), (ECT_0, CE), (CE, CE)])
def test_a_mark_comes_in_for_whom_it_means_something(version: int, inner: int, becomes: int) -> None:
    before = marked(version, inner, dscp=46)
    after = bytes(with_congestion(before))
    assert ecn_of(after) == becomes
    assert after == marked(version, becomes, dscp=46)


@given(st.binary(min_size=20, max_size=20), st.sampled_from([ECT_0, ECT_1]))
def test_an_ipv4_header_that_is_marked_keeps_a_right_checksum(header: bytes, ecn: int) -> None:
    before = bytearray(header)
    before[0], before[1] = 0x45, before[1] & 0xFC | ecn
    before[10:12] = bytes(2)
    before[10:12] = checksum(before).to_bytes(2, "big")
    assert checksum(with_congestion(bytes(before))) == 0


def test_a_batch_has_one_mark_and_a_handshake_its_own() -> None:
    pair = Pair()
    sent = [marked(4, ecn, size=100 + n) for n, ecn in enumerate([0, 0, ECT_0, CE, ECT_1, 0])]
    for each in sent:
        pair.a_sends(each)
    handshake = take_transmits(pair.a)
    assert [transmit.tos for transmit in handshake] == [HANDSHAKE_TOS]
    pair.b.handle_datagrams(pair.source_a, handshake[0].datagrams, 0.0, pair.unix)
    (response,) = take_transmits(pair.b)
    assert response.tos == HANDSHAKE_TOS
    pair.a.handle_datagrams(pair.source_b, response.datagrams, 0.0, pair.unix)
    data = take_transmits(pair.a)
    assert [(transmit.tos, len(transmit.datagrams)) for transmit in data] == [(0, 2), (2, 2), (1, 1), (0, 1)]
    for transmit in data:
        pair.b.handle_datagrams(pair.source_a, transmit.datagrams, 0.0, pair.unix)
    assert take_packets(pair.b) == sent


@pytest.mark.parametrize("version", [4, 6])
def test_congestion_on_the_way_is_told_inside(version: int) -> None:
    pair = Pair()
    pair.b.set_peer(pair.key_a.public(), 0.0, allowed_ips=[ip_network("10.77.0.1"), ip_network("fd77::1")])
    pair.connect()
    pair.a_sends(marked(version, ECT_0))
    pair.a_sends(marked(version, NOT_ECT))
    pair.b.handle_datagrams(pair.source_a, take_datagrams(pair.a), 0.0, pair.unix, is_congested=True)
    assert list(map(bytes, take_packets(pair.b))) == [marked(version, CE), marked(version, NOT_ECT)]
    pair.a_sends(marked(version, ECT_0))
    pair.b.handle_datagrams(pair.source_a, take_datagrams(pair.a), 0.0, pair.unix)
    assert take_packets(pair.b) == [marked(version, ECT_0)]
