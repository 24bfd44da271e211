"""Laws of the WireGuard engine: parsers total over any bytes, parts equal to simpler models of themselves."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coderd.model.errors import MalformedPacket
from coderd.wireguard.allowed_ips import AllowedIps
from coderd.wireguard.batch import MAX_BYTES, MAX_DATAGRAMS, cut_batches
from coderd.wireguard.inner import admit, destination
from coderd.wireguard.message import parse_handshake
from coderd.wireguard.replay import REJECT_AFTER_MESSAGES, WINDOW, ReplayWindow
from coderd.wireguard.transport import make_cipher, open_batch, padding, seal_batch
from tests.unit.wireguard.support import Pair, take_datagrams, take_packets

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

sized = st.sampled_from([0, 3, 4, 31, 32, 63, 64, 91, 92, 147, 148, 149])
handshake_like = st.builds(
    lambda kind, size, fill: (bytes([kind, 0, 0, 0]) + fill * 40)[:size],
    st.integers(0, 6),
    sized,
    st.binary(min_size=4, max_size=8),
)


@pytest.mark.slow
@given(st.binary(max_size=200) | handshake_like)
def test_any_bytes_parse_or_are_malformed_and_what_parses_round_trips(data: bytes) -> None:
    try:
        message = parse_handshake(data)
    except MalformedPacket:
        return
    encoded = message.encode()
    assert data[: len(encoded)] == encoded


@pytest.mark.slow
@given(st.lists(st.binary(max_size=80) | handshake_like, max_size=8))
def test_a_device_takes_any_datagrams_in_silence(datagrams: list[bytes]) -> None:
    pair = Pair()
    pair.connect()
    pair.b.handle_datagrams(pair.source_a, [memoryview(each) for each in datagrams], 1.0, 1e9)
    assert take_datagrams(pair.b) == []
    assert take_packets(pair.b) == []


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_a_device_takes_any_packets_from_its_own_host(packets: list[bytes]) -> None:
    pair = Pair()
    pair.connect()
    pair.a.handle_packets(packets, 1.0, 1e9)


@given(st.lists(st.binary(max_size=60), max_size=8), st.none() | st.just(b"\0" * 16))
def test_any_plaintext_is_admitted_or_counted(plaintexts: list[bytes], own: bytes | None) -> None:
    verdict = admit(plaintexts, lambda source: source[-1] % 2 == 0, own)
    n_dropped = plaintexts.count(b"") + verdict.n_malformed + verdict.n_foreign + verdict.n_misdirected
    assert len(verdict.packets) + n_dropped == len(plaintexts)
    assert all(
        destination(packet) in ((own,) if own else (destination(packet),)) for packet in verdict.packets
    )
    assert all(destination(packet) is not None for packet in verdict.packets)


class SetWindow:
    """The oracle: remembers every counter."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.last = 0

    def accept(self, counter: int) -> bool:
        fits = counter < REJECT_AFTER_MESSAGES and self.last - counter <= WINDOW
        if not fits or counter in self.seen:
            return False
        self.seen.add(counter)
        self.last = max(self.last, counter)
        return True


near = st.integers(0, 200)
counters = near | st.integers(8000, 8300) | st.integers(0, REJECT_AFTER_MESSAGES + 5)
runs = st.builds(lambda first, n: list(range(first, first + n)), counters, st.integers(1, 70))


@pytest.mark.slow
@given(st.lists(runs | st.lists(counters, max_size=10), max_size=12))
@example([[0], [0], [8128], [0], [8129], [1], [0]])
def test_the_window_agrees_with_a_set(batches: list[list[int]]) -> None:
    window, oracle = ReplayWindow(), SetWindow()
    for batch in batches:
        assert window.accept_all(batch) == [oracle.accept(counter) for counter in batch]


v4 = st.integers(0, 2**32 - 1).map(lambda n: n & 0xC0C0_C00F)
v6 = st.integers(0, 2**128 - 1).map(lambda n: n & ((0xC << 124) | 0xF0F))
networks = st.tuples(v4, st.integers(0, 32)).map(
    lambda pair: ip_network((pair[0], pair[1]), strict=False)
) | st.tuples(v6, st.integers(0, 128)).map(
    lambda pair: ip_network((pair[0].to_bytes(16, "big"), pair[1]), strict=False)
)
operations = st.tuples(
    st.sampled_from(["insert", "insert", "remove", "clear"]), networks, st.sampled_from("abc")
)


def scan(table: dict[Network, str], address: Address) -> str | None:
    """The oracle: every prefix that holds the address, the longest wins."""
    fitting = [network for network in table if address.version == network.version and address in network]
    return table[max(fitting, key=lambda network: network.prefixlen)] if fitting else None


@given(
    st.lists(operations, max_size=20),
    st.lists(v4.map(ip_address) | v6.map(lambda n: ip_address(n.to_bytes(16, "big"))), max_size=10),
)
def test_allowed_ips_agree_with_a_linear_scan(
    steps: list[tuple[str, Network, str]], addresses: list[Address]
) -> None:
    routes: AllowedIps[str] = AllowedIps()
    table: dict[Network, str] = {}
    for verb, network, owner in steps:
        if verb == "insert":
            routes.insert(network, owner)
            table[network] = owner
        elif verb == "remove":
            routes.remove(network, owner)
            if table.get(network) == owner:
                del table[network]
        else:
            routes.replace(owner, ())
            table = {each: its_owner for each, its_owner in table.items() if its_owner != owner}
        for address in addresses:
            assert routes.lookup(address.packed) == scan(table, address)
    for owner in "abc":
        assert set(routes.networks(owner)) == {
            each for each, its_owner in table.items() if its_owner == owner
        }


@given(st.lists(st.binary(max_size=300), max_size=10), st.integers(0, 1500), st.integers(0, 2**63))
def test_what_is_sealed_opens_to_itself_and_zeros(packets: list[bytes], mtu: int, first: int) -> None:
    cipher = make_cipher(bytes(32))
    counters, plaintexts = open_batch(cipher, seal_batch(cipher, 1, first, packets, mtu))
    assert counters == list(range(first, first + len(packets)))
    assert plaintexts == [packet + bytes(padding(len(packet), mtu)) for packet in packets]


@given(st.integers(0, 70_000), st.integers(0, 65_535))
def test_padding_rounds_up_but_never_past_the_mtu(size: int, mtu: int) -> None:
    pad = padding(size, mtu)
    assert 0 <= pad < 16
    if mtu and size <= mtu:
        assert size + pad <= mtu
    assert (size + pad) % 16 == 0 or mtu


@given(st.lists(st.sampled_from([32, 92, 148, 1312, 1452, 30_000, 66_000]), max_size=200))
def test_batches_keep_order_and_bounds(sizes: list[int]) -> None:
    datagrams = [bytes(size) for size in sizes]
    batches = cut_batches(datagrams)
    assert [datagram for batch in batches for datagram in batch] == datagrams
    for batch in batches:
        assert 0 < len(batch) <= MAX_DATAGRAMS
        assert len(batch) == 1 or sum(map(len, batch)) <= MAX_BYTES
        assert {len(each) for each in batch[:-1]} <= {len(batch[0])}
        assert len(batch[-1]) <= len(batch[0])
