"""The configuration protocol: what ``wg`` sends, what it must get, what is refused."""

import errno
from ipaddress import ip_network

import pytest

from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, NodePublic
from coderd.wireguard.status import PeerStatus
from coderd.wireguard.uapi import (
    MAX_LINE_SIZE,
    NO_KEY,
    AllowedIpChange,
    Change,
    ConfigurationError,
    Description,
    Operation,
    PeerDescription,
    Request,
    RequestReader,
    encode_errno,
    encode_get,
    parse_get,
    parse_set,
)

PRIVATE = "608779cecd39d2ab6d2515f77db4c22bf3ff7a1958558bfb46e00d3132bf0372"
PUBLIC = "cbd79c1a84b9e6342fe7230c8b339d60be80186a806c3639472e0153ac50c03b"
OTHER = "ab" * 32
ZEROS = "0" * 64
INTERFACES = {"eth0": 2, "2": 2}


def change(*lines: str) -> Change:
    return parse_set(lines, INTERFACES.get)


def refusal(*lines: str) -> int:
    with pytest.raises(ConfigurationError) as caught:
        change(*lines)
    return caught.value.number


def status(key: str = PUBLIC, *, allowed: tuple[str, ...] = (), keepalive: int = 0) -> PeerStatus:
    return PeerStatus(
        key=NodePublic(bytes.fromhex(key)),
        last_handshake_at=None,
        has_session=False,
        tx_bytes=148,
        rx_bytes=92,
        n_staged=0,
        allowed_ips=tuple(map(ip_network, allowed)),
        persistent_keepalive=keepalive,
        has_preshared_key=False,
    )


# What wg sends, command by command


def test_wg_set_of_the_device() -> None:
    wanted = change(f"private_key={PRIVATE}", "listen_port=51820", "fwmark=32")
    assert wanted.private_key == NodePrivate(bytes.fromhex(PRIVATE))
    assert (wanted.listen_port, wanted.fwmark, wanted.replaces_peers) == (51820, 32, False)


def test_wg_set_with_an_empty_key_file_and_everything_off() -> None:
    wanted = change(f"private_key={ZEROS}", "listen_port=0", "fwmark=0")
    assert (wanted.private_key, wanted.is_key_removal) == (None, True)
    assert (wanted.listen_port, wanted.fwmark) == (0, 0)


def test_what_is_not_mentioned_stays() -> None:
    wanted = change()
    assert (wanted.private_key, wanted.is_key_removal, wanted.listen_port, wanted.fwmark) == (
        None,
        False,
        None,
        None,
    )
    (peer,) = change(f"public_key={PUBLIC}").peers
    assert (peer.preshared_key, peer.endpoint, peer.persistent_keepalive, peer.allowed_ips) == (
        None,
        None,
        None,
        [],
    )


def test_wg_set_of_a_peer() -> None:
    (peer,) = change(
        f"public_key={PUBLIC}",
        f"preshared_key={OTHER}",
        "endpoint=192.0.2.9:1000",
        "persistent_keepalive_interval=25",
        "replace_allowed_ips=true",
        "allowed_ip=10.0.0.5/24",
        "allowed_ip=fd00::5/64",
        "allowed_ip=1.2.3.4/32",
    ).peers
    assert peer.key == bytes.fromhex(PUBLIC)
    assert peer.preshared_key == bytes.fromhex(OTHER)
    assert peer.endpoint == ("192.0.2.9", 1000)
    assert peer.persistent_keepalive == 25
    assert peer.replaces_allowed_ips
    assert [str(network) for network, _ in peer.allowed_ips] == ["10.0.0.0/24", "fd00::/64", "1.2.3.4/32"]


def test_each_public_key_begins_a_peer() -> None:
    first, second = change(
        "replace_peers=true", f"public_key={PUBLIC}", "remove=true", f"public_key={OTHER}", "update_only=true"
    ).peers
    assert (first.is_removal, first.is_update_only) == (True, False)
    assert (second.is_removal, second.is_update_only) == (False, True)


def test_replacing_prefixes_undoes_those_before_it_and_a_minus_takes_one_away() -> None:
    (peer,) = change(
        f"public_key={PUBLIC}",
        "allowed_ip=10.0.0.0/8",
        "replace_allowed_ips=true",
        "allowed_ip=10.1.0.0/16",
        "allowed_ip=-10.2.0.0/16",
    ).peers
    assert peer.allowed_ips == [
        AllowedIpChange(ip_network("10.1.0.0/16")),
        AllowedIpChange(ip_network("10.2.0.0/16"), is_removal=True),
    ]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.9:1", ("192.0.2.9", 1)),
        ("[2001:DB8::0:9]:65535", ("2001:db8::9", 65535)),
        ("[::ffff:192.0.2.9]:7", ("192.0.2.9", 7)),
        ("[fe80::1%eth0]:7", ("fe80::1%2", 7)),
        ("[fe80::1%2]:7", ("fe80::1%2", 7)),
    ],
)
def test_endpoints_take_one_form_and_a_zone_becomes_a_number(text: str, endpoint: tuple[str, int]) -> None:
    (peer,) = change(f"public_key={PUBLIC}", f"endpoint={text}").peers
    assert peer.endpoint == endpoint


# What is refused


@pytest.mark.parametrize(
    "line",
    [
        "listen_port=65536",
        "listen_port=-1",
        "listen_port=+1",
        "listen_port=",
        "listen_port=1 ",
        "listen_port=0x10",
        "listen_port=1_0",
        "listen_port=²",
        "listen_port=" + "1" * 3000,
        "fwmark=4294967296",
        "fwmark=0x20",
        f"private_key={PRIVATE[:-1]}",
        f"private_key={PRIVATE[:-1]}g",
        f"private_key= {PRIVATE[:-1]}",
        "replace_peers=false",
        "replace_peers=True",
        "no_such_key=1",
        "=",
        f"preshared_key={OTHER}",
        "remove=true",
    ],
)
def test_bad_lines_of_a_device(line: str) -> None:
    assert refusal("fwmark=1", line) == errno.EINVAL


@pytest.mark.parametrize(
    "line",
    [
        "endpoint=example.org:51820",
        "endpoint=192.0.2.9",
        "endpoint=192.0.2.9:0",
        "endpoint=192.0.2.9:65536",
        "endpoint=2001:db8::9:1",
        "endpoint=[192.0.2.9]:1",
        "endpoint=[fe80::1%nosuch]:1",
        "endpoint=[fe80::1%]:1",
        "endpoint=192.0.2.9%eth0:1",
        "persistent_keepalive_interval=65536",
        "persistent_keepalive_interval=off",
        "allowed_ip=10.0.0.0",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=10.0.0.0/255.0.0.0",
        "allowed_ip=fd00::/129",
        "allowed_ip=fe80::%eth0/64",
        "allowed_ip=/8",
        "allowed_ip=",
        "allowed_ip=--10.0.0.0/8",
        "replace_allowed_ips=1",
        "update_only=",
        "remove=false",
        "protocol_version=2",
        "listen_port=1",
        "private_key=" + PRIVATE,
    ],
)
def test_bad_lines_of_a_peer(line: str) -> None:
    assert refusal(f"public_key={PUBLIC}", "protocol_version=1", line) == errno.EINVAL


def test_a_line_without_an_equals_sign_is_a_protocol_error() -> None:
    assert refusal("fwmark=1", "nonsense") == errno.EPROTO


def test_a_refusal_says_nothing_of_the_line() -> None:
    with pytest.raises(ConfigurationError) as caught:
        change(f"private_key={PRIVATE}0")
    assert PRIVATE not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_a_get_has_no_lines() -> None:
    parse_get([])
    with pytest.raises(ConfigurationError):
        parse_get(["listen_port=1"])


# What is told


def test_the_reply_to_a_get_byte_by_byte() -> None:
    peer = PeerDescription(status(allowed=("10.0.0.2/32",)), None, NO_KEY, None)
    reply = encode_get(Description(NodePrivate(bytes.fromhex(PRIVATE)), 51820, 0, (peer,)))
    assert (
        reply.decode()
        == f"""\
private_key={PRIVATE}
listen_port=51820
public_key={PUBLIC}
preshared_key={ZEROS}
protocol_version=1
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=148
rx_bytes=92
persistent_keepalive_interval=0
allowed_ip=10.0.0.2/32
errno=0

"""
    )


def test_what_is_known_of_a_peer_is_told() -> None:
    peer = PeerDescription(status(keepalive=25), ("2001:db8::9", 7), bytes.fromhex(OTHER), 1_700_000_000.25)
    lines = encode_get(Description(None, 0, 32, (peer,))).decode().splitlines()
    assert lines[0] == "fwmark=32"
    assert {
        f"preshared_key={OTHER}",
        "endpoint=[2001:db8::9]:7",
        "last_handshake_time_sec=1700000000",
        "last_handshake_time_nsec=250000000",
        "persistent_keepalive_interval=25",
    } <= set(lines)


def test_an_empty_device_has_nothing_to_tell() -> None:
    assert encode_get(Description(None, 0, 0, ())) == b"errno=0\n\n"
    assert encode_errno(-98) == b"errno=-98\n\n"


def test_secrets_do_not_print_themselves() -> None:
    wanted = change(f"private_key={PRIVATE}", f"public_key={PUBLIC}", f"preshared_key={OTHER}")
    description = Description(
        wanted.private_key, 0, 0, (PeerDescription(status(), None, bytes.fromhex(OTHER), None),)
    )
    request = Request(Operation.SET, [f"private_key={PRIVATE}"])
    shown = f"{wanted!r}{wanted.peers!r}{description!r}{description.peers!r}{request!r}"
    assert PRIVATE not in shown
    assert OTHER not in shown
    assert repr(bytes.fromhex(OTHER)) not in shown


# Framing


def read(*pieces: bytes) -> list[Request]:
    reader = RequestReader()
    return [request for piece in pieces for request in reader.feed(piece)]


def test_requests_follow_one_another_on_one_connection() -> None:
    assert read(b"get=1\n\nset=1\nfwmark=1\n\nget=1\n\n") == [
        Request(Operation.GET, []),
        Request(Operation.SET, ["fwmark=1"]),
        Request(Operation.GET, []),
    ]


@pytest.mark.parametrize("data", [b"get=2\n", b"set=2\n", b"foo=1\n\n", b"\n", b" get=1\n", b"get=1\r\n"])
def test_there_are_two_operations_and_no_others(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        read(data)


def test_a_line_has_a_limit_before_and_after_its_end() -> None:
    with pytest.raises(MalformedPacket):
        read(b"set=1\n", b"x" * (MAX_LINE_SIZE + 1))
    with pytest.raises(MalformedPacket):
        read(b"set=1\n", b"x" * MAX_LINE_SIZE, b"xx\n")


def test_a_request_has_a_limit_and_the_next_one_has_it_anew() -> None:
    reader = RequestReader()
    megabyte = b"x=" + b"1" * 1021 + b"\n"
    for _ in range(2):
        assert not list(reader.feed(b"set=1\n" + megabyte * 1024 * 15))
        assert len(list(reader.feed(b"\n"))) == 1
    with pytest.raises(MalformedPacket):
        list(reader.feed(b"set=1\n" + megabyte * 1024 * 17))


def test_a_set_may_end_with_the_connection_but_not_within_a_line() -> None:
    reader = RequestReader()
    assert reader.is_between_requests
    assert not list(reader.feed(b"set=1\nfwmark=1\n"))
    assert not reader.is_between_requests
    assert reader.finish() == Request(Operation.SET, ["fwmark=1"])
    assert not list(reader.feed(b"set=1\nallowed_ip=10.0.0.0/2"))
    with pytest.raises(MalformedPacket):
        reader.finish()


def test_a_connection_that_says_nothing_wants_nothing() -> None:
    assert RequestReader().finish() is None
