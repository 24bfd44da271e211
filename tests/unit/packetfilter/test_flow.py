"""The table of flows is bounded, and nobody is pushed out of it by somebody else."""

from coderd.packetfilter.flow import MAX_FLOWS_OF_PEER, MAX_FLOWS_TO_PEER
from tests.unit.packetfilter.support import OTHER, OTHER_KEY, OWN, PEER_KEY, SYN, UDP, Host, ipv6, udp_body


def test_a_peer_that_begins_without_end_is_remembered_up_to_its_share() -> None:
    host = Host("all")
    for port in range(10_000):
        host.udp_in(port, 1)
    assert host.filter.n_flows(PEER_KEY) == MAX_FLOWS_OF_PEER


def test_it_pushes_out_neither_what_this_node_began_nor_anothers() -> None:
    host = Host("1-9999")
    assert host.udp_out(40000, 53)
    other = ipv6(OTHER, OWN, UDP, udp_body(53, 40000))
    assert host.sends(ipv6(OWN, OTHER, UDP, udp_body(40000, 53)))
    for port in range(1, 9_999):
        host.udp_in(port, 1)
    assert host.udp_in(40000, 53)
    assert host.takes(other, OTHER_KEY)


def test_an_established_connection_makes_room_for_nobody() -> None:
    host = Host()
    for port in range(100):
        host.connect(port, 22)
    for peer_port in range(20_000):
        assert host.tcp_out(40000, peer_port, SYN)
    assert all(host.tcp_in(port, 22) for port in range(100))
    assert host.filter.n_flows(PEER_KEY) == MAX_FLOWS_TO_PEER


def test_where_all_are_established_one_more_is_refused_until_they_have_died() -> None:
    host = Host("22,23")
    for number in range(MAX_FLOWS_OF_PEER):
        host.accept(22, number)
    assert not host.tcp_in(23, 1, SYN)
    assert host.drops == {"table_full": 1}
    host.connect(40000, 80)
    host.now += 10 * 86400
    assert host.tcp_in(23, 1, SYN)
    assert host.filter.n_flows(PEER_KEY) == 1


def test_who_may_begin_everything_is_let_in_though_the_table_is_full() -> None:
    host = Host("all")
    for number in range(MAX_FLOWS_OF_PEER):
        host.accept(22, number)
    assert host.tcp_in(23, 1, SYN)


def test_this_nodes_own_beginnings_pass_though_they_cannot_be_followed() -> None:
    host = Host()
    for number in range(MAX_FLOWS_TO_PEER):
        host.connect(number, 80)
    assert host.tcp_out(40000, 81, SYN)
    assert host.counters["packetfilter.unfollowed"] == 1


def test_what_has_died_is_forgotten_by_and_by() -> None:
    host = Host()
    for port in range(1000):
        assert host.udp_out(port, 53)
    host.now += 1000
    for port in range(1000, 1500):
        assert host.udp_out(port, 53)
    assert host.filter.n_flows(PEER_KEY) == 500
