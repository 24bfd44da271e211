"""Addresses: text and wire forms, scopes, tailnet addresses."""

from ipaddress import IPv6Address
from uuid import UUID

import pytest

from coderd.model.addresses import (
    AddressScope,
    AddrPort,
    address_scope,
    canonical_ip,
    encode_addr_port,
    format_addr_port,
    is_ipv6,
    parse_addr_port,
    parse_wire_addr_port,
    tailnet_address,
)


@pytest.mark.parametrize(
    ("ip", "scope"),
    [
        ("127.0.0.1", AddressScope.LOOPBACK),
        ("127.255.255.254", AddressScope.LOOPBACK),
        ("::1", AddressScope.LOOPBACK),
        ("169.254.1.1", AddressScope.LINK_LOCAL),
        ("fe80::1", AddressScope.LINK_LOCAL),
        ("10.1.2.3", AddressScope.PRIVATE),
        ("172.16.0.1", AddressScope.PRIVATE),
        ("172.31.255.255", AddressScope.PRIVATE),
        ("192.168.0.1", AddressScope.PRIVATE),
        ("fd00::1", AddressScope.PRIVATE),
        ("172.32.0.1", AddressScope.PUBLIC),
        ("100.64.0.1", AddressScope.PUBLIC),
        ("192.0.2.1", AddressScope.PUBLIC),
        ("2001:db8::1", AddressScope.PUBLIC),
    ],
)
def test_scopes_follow_the_path_rules(ip: str, scope: AddressScope) -> None:
    assert address_scope(ip) is scope


def test_a_link_local_address_with_its_interface_is_link_local() -> None:
    assert address_scope("fe80::1%3") is AddressScope.LINK_LOCAL


def test_a_tailnet_address_is_the_prefix_over_the_nodes_id() -> None:
    node_id = UUID("11112222-3333-4444-8555-666677778888")
    assert tailnet_address(node_id) == IPv6Address("fd60:627a:a42b:4444:8555:6666:7777:8888")


@pytest.mark.parametrize(
    ("addr", "text", "wire"),
    [
        (("192.0.2.7", 40001), "192.0.2.7:40001", "00000000000000000000ffffc00002079c41"),
        (("2001:db8::7", 41641), "[2001:db8::7]:41641", "20010db8000000000000000000000007a2a9"),
        (("127.3.3.40", 2), "127.3.3.40:2", "00000000000000000000ffff7f0303280002"),
    ],
)
def test_pairs_have_a_text_and_a_wire_form(addr: AddrPort, text: str, wire: str) -> None:
    assert format_addr_port(addr) == text
    assert parse_addr_port(text) == addr
    assert encode_addr_port(addr).hex() == wire
    assert parse_wire_addr_port(bytes.fromhex(wire)) == addr
    assert is_ipv6(addr) == text.startswith("[")


def test_text_is_read_canonically() -> None:
    assert parse_addr_port("[2001:DB8:0::7]:9") == ("2001:db8::7", 9)
    assert parse_addr_port("[::ffff:192.0.2.7]:9") == ("192.0.2.7", 9)
    assert canonical_ip("::ffff:192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":1",
        "192.0.2.7",
        "192.0.2.7:",
        "192.0.2.7:65536",
        "192.0.2.7:-1",
        "192.0.2.7:+1",
        "192.0.2.7: 1",
        "192.0.2.7:\u0661",
        "[192.0.2.7]:1",
        "2001:db8::7:1",
        "[2001:db8::7:1",
        "[2001:db8::7]1",
        "example:1",
    ],
)
def test_text_that_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whose message is partly ipaddress's own
        parse_addr_port(text)


def test_a_scope_does_not_travel() -> None:
    assert parse_wire_addr_port(encode_addr_port(("fe80::1%3", 9))) == ("fe80::1", 9)


def test_a_wire_form_of_another_length_is_refused() -> None:
    for size in (0, 17, 19):
        with pytest.raises(ValueError, match="18 bytes"):
            parse_wire_addr_port(bytes(size))
