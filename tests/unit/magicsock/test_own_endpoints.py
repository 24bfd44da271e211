"""Which addresses are told to peers."""

from ipaddress import ip_address

from coderd.magicsock.interfaces import InterfaceAddress, choose_addresses
from coderd.magicsock.own_endpoints import OwnEndpoints
from coderd.netcheck import Report

T = 1000.0


def found(
    ip: str, interface: str = "eth0", prefix_length: int = 64, *, tunnel: bool = False
) -> InterfaceAddress:
    return InterfaceAddress(interface, ip_address(ip), prefix_length, is_tunnel=tunnel)


def test_regular_addresses_are_told_ipv4_first_and_sorted() -> None:
    host = [
        found("fd00::2"),
        found("203.0.113.7"),
        found("10.0.0.2"),
        found("127.0.0.1", "lo"),
        found("fe80::1"),
    ]
    assert choose_addresses(host, "coder0") == ("10.0.0.2", "203.0.113.7", "fd00::2")


def test_tunnels_and_the_tailnet_are_left_out() -> None:
    host = [
        found("10.0.0.2"),
        found("10.8.0.1", "tun1", tunnel=True),
        found("192.168.5.5", "coder0"),
        found("fd60:627a:a42b::5", "weird0"),
    ]
    assert choose_addresses(host, "coder0") == ("10.0.0.2",)


def test_loopback_serves_only_where_there_is_nothing_else() -> None:
    assert choose_addresses([found("127.0.0.1", "lo"), found("::1", "lo")], "coder0") == ("127.0.0.1", "::1")
    assert choose_addresses([found("127.0.0.1", "lo"), found("169.254.3.4")], "coder0") == ("169.254.3.4",)


def test_addresses_that_are_not_usable_yet_are_left_out() -> None:
    tentative = found("2001:db8::1")._replace(is_usable=False)
    assert choose_addresses([tentative, found("10.0.0.2")], "coder0") == ("10.0.0.2",)


def test_no_more_than_two_ipv6_addresses_of_a_subnet_are_told() -> None:
    host = [found(f"2001:db8::{n}") for n in range(1, 6)] + [found("2001:db8:0:1::9")]
    assert choose_addresses(host, "coder0") == ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::9")


def test_mappings_come_first_then_local_addresses() -> None:
    own = OwnEndpoints()
    own.set_local(41641, 41642, ["10.0.0.2", "2001:db8::2"])
    own.note_mapping(("198.51.100.1", 20000), T)
    assert own.gather(T) == (
        (("198.51.100.1", 20000), 2),
        (("10.0.0.2", 41641), 1),
        (("2001:db8::2", 41642), 1),
    )


def test_a_mapping_is_told_for_310_seconds_after_it_was_last_seen() -> None:
    own = OwnEndpoints()
    own.set_local(41641, None, [])
    own.note_mapping(("198.51.100.1", 20000), T)
    own.note_mapping(("198.51.100.1", 20007), T + 100)
    assert [addr[1] for addr, _ in own.gather(T + 310)] == [20007, 20000]
    assert [addr[1] for addr, _ in own.gather(T + 311)] == [20007]


def test_no_more_than_six_mappings_of_one_address_are_told() -> None:
    own = OwnEndpoints()
    own.set_local(41641, None, [])
    for n in range(10):
        own.note_mapping(("198.51.100.1", 20000 + n), T + n)
    assert [addr[1] for addr, _ in own.gather(T + 10)] == [20009, 20008, 20007, 20006, 20005, 20004]


def test_where_the_mapping_varies_the_local_port_is_guessed_too() -> None:
    own = OwnEndpoints()
    own.set_local(41641, None, [])
    own.note_mapping(("198.51.100.1", 20000), T)
    own.note_report(Report(T, T, mapping_varies_by_dest=True), T)
    assert own.gather(T) == ((("198.51.100.1", 20000), 2), (("198.51.100.1", 41641), 4))


def test_a_family_without_a_socket_is_not_told() -> None:
    own = OwnEndpoints()
    own.set_local(41641, None, ["10.0.0.2", "2001:db8::2"])
    assert own.gather(T) == ((("10.0.0.2", 41641), 1),)
