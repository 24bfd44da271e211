"""What passes the packet filter, and who began it."""

import struct

import pytest

from coderd.engine.introduction import NEXT_HEADER
from coderd.model import Buffer
from coderd.model.netmap import PeerAccess
from coderd.model.ports import ALL_PORTS, NO_PORTS, parse_ports
from coderd.packet import checksum, pseudo_header_sum
from coderd.packetfilter import workspace_policy
from coderd.packetfilter.flow import (
    CLOSING_LIFETIME,
    ECHO_LIFETIME,
    ESTABLISHED_LIFETIME,
    FRAGMENT_LIFETIME,
    MAX_FLOWS_OF_PEER,
    UDP_LIFETIME,
)
from coderd.packetfilter.peer import MOST_FORMER, MOST_SERVED
from tests.headers import parse_tcp
from tests.unit.packetfilter.support import (
    ACK,
    FIN,
    FRAGMENT,
    ICMP,
    OTHER,
    OTHER_KEY,
    OWN,
    PEER,
    PEER_KEY,
    RST,
    SYN,
    TCP,
    UDP,
    Host,
    echo_body,
    error_body,
    fragment_body,
    ipv6,
    tcp_body,
    udp_body,
)


class TestADeviceThatAcceptsNothing:
    def test_no_port_can_be_connected_to(self) -> None:
        host = Host()
        for port in (1, 3, 4, 22, 80, 40000, 65535):
            assert not host.tcp_in(port, 50000, SYN)
            assert not host.udp_in(port, 50000)
        assert host.drops == {"not_accepted": 14}

    def test_what_it_began_is_answered(self) -> None:
        host = Host()
        host.connect(40000, 22)
        assert host.tcp_in(40000, 22, payload=b"hello")
        assert host.udp_out(40001, 53)
        assert host.udp_in(40001, 53)

    def test_an_answer_comes_from_the_port_and_the_peer_that_was_asked(self) -> None:
        host = Host()
        host.connect(40000, 22)
        assert host.udp_out(40001, 53)
        assert not host.tcp_in(40000, 23)
        assert not host.tcp_in(40002, 22)
        assert not host.udp_in(40001, 54)
        assert not host.takes(ipv6(OTHER, OWN, UDP, udp_body(53, 40001)), OTHER_KEY)

    def test_a_peer_that_has_been_connected_to_cannot_begin_from_that_port(self) -> None:
        host = Host()
        host.connect(40000, 22)
        assert not host.tcp_in(40000, 22, SYN)
        assert host.tcp_in(40000, 22, payload=b"the connection goes on")

    @pytest.mark.parametrize("flags", [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, 0, FIN, 0xFF, 0x29])
    def test_a_segment_of_no_connection_reaches_no_port(self, flags: int) -> None:
        host = Host()
        assert not host.tcp_in(22, 50000, flags)
        assert not host.tcp_out(
            22, 50000
        )  # and what the kernel might still say is not believed to be a beginning
        assert not host.tcp_in(22, 50000, flags)

    def test_a_syn_with_anything_but_an_ack_is_a_beginning(self) -> None:
        host = Host()
        for extra in (0, FIN, RST, 0x08, 0x20, 0x40, 0x80):
            assert not host.tcp_in(22, 50000, SYN | extra)
        assert host.drops == {"not_accepted": 7}


class TestAcceptedPorts:
    def test_they_and_no_others_can_be_connected_to(self) -> None:
        host = Host("22,8000-8999")
        for port in (22, 8000, 8500, 8999):
            host.accept(port, 50000)
            assert host.udp_in(port, 50000)
        for port in (21, 23, 7999, 9000):
            assert not host.tcp_in(port, 50000, SYN)
            assert not host.udp_in(port, 50000)

    def test_all_means_every_protocol_and_every_fragment(self) -> None:
        host = Host("all")
        for protocol in (0, 2, 43, 47, 50, 51, 60, 132):
            assert host.takes(ipv6(PEER, OWN, protocol, bytes(8)))
        assert host.fragment_in(TCP, 5, 1, b"rest")
        assert all(host.icmp_in(echo_body(128, 1, sequence)) for sequence in range(100))
        host.accept(22, 50000)
        assert host.tcp_in(1, 2, ACK)

    def test_what_daemons_say_to_each_other_reaches_no_host(self) -> None:
        host = Host("all")
        assert not host.takes(ipv6(PEER, OWN, NEXT_HEADER, bytes(41)))
        assert host.drops == {"protocol": 1}

    def test_a_workspace_serves_its_services_beside_what_it_shares(self) -> None:
        host = Host(workspace_policy(PeerAccess(parse_ports("8000"), terminal=False)))
        for port in (3, 4, 8000):
            host.accept(port, 50000)
        assert not host.tcp_in(22, 50000, SYN)
        assert not host.udp_in(3, 50000)
        assert not host.udp_in(4, 50000)

    def test_a_guest_with_no_ports_still_reaches_the_services(self) -> None:
        host = Host(workspace_policy(PeerAccess(NO_PORTS, terminal=True)))
        host.accept(4, 50000)
        assert not host.tcp_in(8000, 50000, SYN)

    def test_the_server_reaches_the_node_api_alone(self) -> None:
        host = Host(workspace_policy(PeerAccess(ALL_PORTS, is_server=True)))
        host.accept(4, 50000)
        for port in (3, 22, 8000):
            assert not host.tcp_in(port, 50000, SYN)
        assert not host.udp_in(4, 50000)
        assert not host.takes(ipv6(PEER, OWN, 132, bytes(20)))


class TestExtensionHeaders:
    @pytest.mark.parametrize("header", [0, 43, 50, 51, 59, 60, 135, 139, 140, 41, 4, 99, 255])
    def test_no_port_is_read_from_behind_one(self, header: int) -> None:
        """The chain leads to a port that is accepted.

        It is hop-by-hop options, say, and then TCP (Nebula #1840).
        """
        host = Host("8000")
        body = bytes([TCP, 0]) + bytes(6) + tcp_body(50000, 8000, SYN)
        assert not host.takes(ipv6(PEER, OWN, header, body))
        shifted = tcp_body(50000, 8000, SYN)  # its first bytes are what the ports would be
        assert not host.takes(ipv6(PEER, OWN, header, shifted))
        assert host.drops == {"protocol": 2}

    @pytest.mark.parametrize("header", [0, 43, 44, 50, 60, 132])
    def test_one_that_this_node_sends_opens_nothing(self, header: int) -> None:
        host = Host()
        body = bytes([TCP, 0]) + bytes(6) + tcp_body(40000, 22, SYN)
        assert host.sends(ipv6(OWN, PEER, header, body))
        assert not host.takes(ipv6(PEER, OWN, header, bytes([TCP, 0]) + bytes(6) + tcp_body(22, 40000, SYN)))
        assert not host.tcp_in(40000, 22)


class TestFragments:
    def test_of_a_datagram_that_is_accepted_pass_behind_the_first(self) -> None:
        host = Host("8000")
        assert not host.fragment_in(UDP, 100, 7, b"before the first")
        assert host.fragment_in(UDP, 0, 7, udp_body(50000, 8000, b"x" * 16))
        assert host.fragment_in(UDP, 3, 7, b"x" * 16)
        assert not host.fragment_in(UDP, 3, 8, b"of another")
        host.now += FRAGMENT_LIFETIME
        assert not host.fragment_in(UDP, 5, 7, b"too late")

    def test_of_one_that_is_not_are_dropped(self) -> None:
        host = Host("8000")
        assert not host.fragment_in(UDP, 0, 7, udp_body(50000, 22, b"x" * 16))
        assert not host.fragment_in(UDP, 3, 7, b"x" * 16)

    def test_of_an_answer_pass(self) -> None:
        host = Host()
        assert host.udp_out(40000, 53)
        assert host.fragment_in(UDP, 0, 1, udp_body(53, 40000, b"x" * 16))
        assert host.fragment_in(UDP, 3, 1, b"x" * 16)

    def test_a_question_in_fragments_is_a_question(self) -> None:
        host = Host()
        assert host.sends(ipv6(OWN, PEER, FRAGMENT, fragment_body(UDP, 0, 1, udp_body(40000, 53, b"x" * 16))))
        assert host.udp_in(40000, 53)

    def test_of_tcp_hide_flags_and_are_refused(self) -> None:
        host = Host("8000")
        host.connect(40000, 22)
        for port, peer_port in ((8000, 50000), (40000, 22)):
            assert not host.fragment_in(TCP, 0, 1, tcp_body(peer_port, port, SYN)[:8])
            assert not host.fragment_in(TCP, 1, 1, tcp_body(peer_port, port, SYN)[8:])
            assert not host.fragment_in(TCP, 0, 2, tcp_body(peer_port, port, ACK))
        assert not host.fragment_in(FRAGMENT, 0, 3, fragment_body(UDP, 0, 4, udp_body(50000, 8000)))

    def test_of_a_ping_count_once(self) -> None:
        host = Host()
        assert host.fragment_in(ICMP, 0, 1, echo_body(128, 9) + bytes(16))
        assert host.fragment_in(ICMP, 3, 1, bytes(16))


class TestUdp:
    def test_a_flow_lives_five_minutes_after_its_last_packet(self) -> None:
        host = Host()
        assert host.udp_out(40000, 53)
        host.now += UDP_LIFETIME - 1
        assert host.udp_in(40000, 53)
        host.now += UDP_LIFETIME - 1
        assert host.udp_in(40000, 53)
        host.now += UDP_LIFETIME
        assert not host.udp_in(40000, 53)

    def test_what_is_only_sent_stays_open_too(self) -> None:
        host = Host()
        for _ in range(10):
            assert host.udp_out(40000, 53)
            host.now += UDP_LIFETIME / 2
        assert host.udp_in(40000, 53)


class TestTcp:
    def test_a_connection_may_be_silent_for_days(self) -> None:
        host = Host()
        host.connect(40000, 22)
        host.now += ESTABLISHED_LIFETIME - 1
        assert host.tcp_in(40000, 22)
        host.now += ESTABLISHED_LIFETIME
        assert not host.tcp_in(40000, 22)

    def test_half_closed_it_goes_on(self) -> None:
        host = Host()
        host.connect(40000, 22)
        assert host.tcp_out(40000, 22, FIN | ACK)
        host.now += CLOSING_LIFETIME * 10
        assert host.tcp_in(40000, 22, payload=b"the answer is long")

    def test_closed_at_both_ends_it_is_over_soon(self) -> None:
        host = Host()
        host.connect(40000, 22)
        assert host.tcp_in(40000, 22, FIN | ACK)
        assert host.tcp_out(40000, 22, FIN | ACK)
        assert host.tcp_in(40000, 22)
        host.now += CLOSING_LIFETIME
        assert not host.tcp_in(40000, 22)

    @pytest.mark.parametrize("is_ours", [True, False])
    def test_reset_it_is_over_soon(self, is_ours: bool) -> None:
        host = Host()
        host.connect(40000, 22)
        assert host.tcp_out(40000, 22, RST) if is_ours else host.tcp_in(40000, 22, RST)
        host.now += CLOSING_LIFETIME
        assert not host.tcp_in(40000, 22)

    def test_the_same_ports_are_used_again(self) -> None:
        host = Host("22")
        for _ in range(3):
            host.accept(22, 50000)
            assert host.tcp_in(22, 50000, FIN | ACK)
            assert host.tcp_out(22, 50000, FIN | ACK)
            host.connect(40000, 80)
            assert host.tcp_out(40000, 80, RST)

    def test_a_run_of_equal_headers_is_judged_as_each_would_be(self) -> None:
        host = Host()
        host.connect(40000, 22)
        data = ipv6(PEER, OWN, TCP, tcp_body(22, 40000, ACK, b"x" * 100))
        syn = ipv6(PEER, OWN, TCP, tcp_body(22, 40000, SYN, b"x" * 100))
        stray = ipv6(PEER, OWN, TCP, tcp_body(22, 40001, ACK, b"x" * 100))
        run: list[Buffer] = [data, data, syn, data, stray, stray, data, syn]
        assert host.filter.admit(PEER_KEY, run, host.now) == [data, data, data, data]
        assert host.drops == {"not_accepted": 2, "unknown_flow": 2}

    def test_what_was_judged_in_an_earlier_read_holds_no_longer_than_its_flow(self) -> None:
        host = Host("22")
        data = ipv6(PEER, OWN, TCP, tcp_body(50000, 22, ACK, b"x" * 100))
        syn = ipv6(PEER, OWN, TCP, tcp_body(50000, 22, SYN, b"x" * 100))
        host.accept(22, 50000)
        assert host.takes(data)
        assert host.tcp_out(22, 50000, RST)
        host.allow("none")
        assert not host.takes(data)
        host.connect(22, 50000)
        assert host.takes(data)
        assert host.tcp_out(22, 50000, RST)
        assert not host.takes(syn)
        assert host.takes(data)
        assert not host.takes(syn)
        host.now += CLOSING_LIFETIME
        assert not host.takes(data)


class TestIcmp:
    def test_five_echo_requests_a_second_pass_whatever_is_accepted(self) -> None:
        host = Host()
        assert [host.icmp_in(echo_body(128, 1, n)) for n in range(10)] == [True] * 5 + [False] * 5
        host.now += 1
        assert sum(host.icmp_in(echo_body(128, 1, n)) for n in range(10)) == 5
        request = ipv6(OTHER, OWN, ICMP, echo_body(128, 1))
        assert host.takes(request, OTHER_KEY)  # another's are counted apart
        assert host.drops == {"echo_rate": 10}

    def test_equal_echo_requests_in_one_read_are_counted_each(self) -> None:
        host = Host()
        assert len(host.filter.admit(PEER_KEY, [ipv6(PEER, OWN, ICMP, echo_body(128, 1))] * 64, 0.0)) == 5

    def test_echo_replies_to_this_nodes_own_requests_pass(self) -> None:
        host = Host()
        assert not host.icmp_in(echo_body(129, 7))
        assert host.icmp_out(echo_body(128, 7))
        assert all(host.icmp_in(echo_body(129, 7, n)) for n in range(100))
        assert not host.icmp_in(echo_body(129, 8))
        host.now += ECHO_LIFETIME
        assert not host.icmp_in(echo_body(129, 7))

    @pytest.mark.parametrize("kind", [1, 2, 3, 4])
    def test_an_error_passes_that_quotes_a_packet_of_a_known_flow(self, kind: int) -> None:
        host = Host()
        host.connect(40000, 22)
        assert host.udp_out(40001, 53)
        assert host.icmp_out(echo_body(128, 7))
        for body, protocol in (
            (tcp_body(40000, 22, ACK), TCP),
            (udp_body(40001, 53), UDP),
            (echo_body(128, 7), ICMP),
        ):
            assert host.icmp_in(error_body(kind, ipv6(OWN, PEER, protocol, body)))

    def test_an_error_that_quotes_anything_else_is_dropped(self) -> None:
        host = Host()
        host.connect(40000, 22)
        sent = tcp_body(40000, 22, ACK)
        for quote in (
            ipv6(OWN, PEER, TCP, tcp_body(40000, 23, ACK)),
            ipv6(OWN, PEER, UDP, sent),
            ipv6(OWN, PEER, 0, sent),
            ipv6(OWN, OTHER, TCP, sent),
            ipv6(OTHER, PEER, TCP, sent),
            ipv6(PEER, OWN, TCP, sent),
            ipv6(OWN, PEER, TCP, sent)[:47],
            b"\x45" + ipv6(OWN, PEER, TCP, sent)[1:],
            b"",
        ):
            assert not host.icmp_in(error_body(1, quote))
        assert host.drops == {"icmp_error": 9}

    @pytest.mark.parametrize("kind", [0, 5, 100, 127, 130, 131, 132, 133, 134, 135, 136, 137, 143, 255])
    def test_no_other_icmp_passes(self, kind: int) -> None:
        """Redirects and router advertisements among it."""
        host = Host("22")
        assert not host.icmp_in(bytes([kind]) + bytes(40))


class TestRefusals:
    def refused(self, host: Host) -> list[bytes]:
        return list(iter(host.filter.poll_answer, None))

    def test_who_connects_to_a_closed_port_hears_so_at_once(self) -> None:
        host, peer = Host(), Host()
        syn = ipv6(PEER, OWN, TCP, tcp_body(50000, 22, SYN))
        assert not host.takes(syn)
        (refusal,) = self.refused(host)
        assert (refusal[6], refusal[8:24], refusal[24:40]) == (ICMP, OWN, PEER)
        assert refusal[40:42] == b"\x01\x01"  # unreachable, administratively prohibited
        assert refusal[48:] == syn
        assert checksum(refusal[40:], pseudo_header_sum(refusal[8:40], ICMP, len(refusal) - 40)) == 0
        # and at its own filter the refusal is an error that quotes a flow
        peer.filter.set_peers(PEER, {OTHER_KEY: (OWN, workspace_policy(PeerAccess(NO_PORTS)))}, 0.0)
        assert not peer.takes(refusal, OTHER_KEY)
        assert peer.sends(syn)
        assert peer.takes(refusal, OTHER_KEY)

    def test_is_told_ten_times_a_second_at_most_and_in_few_bytes(self) -> None:
        host = Host()
        big = ipv6(PEER, OWN, UDP, udp_body(50000, 22, b"x" * 1200))
        for _ in range(1000):
            assert not host.takes(big)
        refusals = self.refused(host)
        assert len(refusals) == host.counters["packetfilter.refusals"] == 10
        assert all(len(refusal) < 200 for refusal in refusals)

    def test_what_only_probes_hears_nothing(self) -> None:
        host = Host()
        for flags in (ACK, RST, FIN, SYN | ACK):
            assert not host.tcp_in(22, 50000, flags)
        assert not host.takes(ipv6(PEER, OWN, 60, bytes(40)))
        assert self.refused(host) == []


class TestWhenAccessChanges:
    def test_narrowed_it_ends_established_connections_both_ways(self) -> None:
        host = Host("22,8000")
        host.accept(22, 50000)
        host.accept(8000, 50001)
        assert host.udp_in(22, 50000)
        host.allow("8000")
        assert not host.tcp_in(22, 50000, payload=b"rm -rf")
        assert not host.tcp_out(22, 50000, payload=b"output")
        assert not host.udp_in(22, 50000)
        assert not host.udp_out(22, 50000)
        assert host.tcp_in(8000, 50001)
        assert host.drops == {"ended": 4}

    def test_an_ended_one_on_a_port_of_those_who_connect_is_not_picked_up(self) -> None:
        """The kernel repeats what the peer has not acknowledged: that opens nothing."""
        host = Host("50000")
        host.accept(50000, 50000)
        host.allow("none")
        for _ in range(10):
            assert not host.tcp_out(50000, 50000, payload=b"again")
            host.now += 900
            assert not host.tcp_in(50000, 50000)

    @pytest.mark.parametrize("how", ["reset", "crowded out", "picked up"])
    def test_what_a_peer_has_made_the_table_forget_does_not_outlive_its_access(self, how: str) -> None:
        """On a port that is also of those who connect.

        The kernels know the connection whatever the filter thinks of it.
        """
        host = Host("50000")
        host.accept(50000, 50000)
        if how == "reset":
            assert host.tcp_in(50000, 50000, RST)  # of no sequence number that a kernel believes
            host.now += CLOSING_LIFETIME + 1
        elif how == "crowded out":
            assert host.tcp_in(50000, 50000, RST)
            for port in range(1, 3 * MAX_FLOWS_OF_PEER):
                host.udp_in(50000, port)
        else:
            host.restart("50000")
            assert host.tcp_out(50000, 50000)
        host.allow("none")
        assert not host.tcp_out(50000, 50000, payload=b"output")
        assert not host.tcp_in(50000, 50000, payload=b"typed")
        assert host.drops["ended"] >= 1

    @pytest.mark.parametrize("how", ["silent", "crowded out before", "crowded out", "gone"])
    def test_a_service_by_udp_that_goes_on_sending_lets_nobody_in_again(self, how: str) -> None:
        """As a mosh server does."""
        host = Host("22,60001")
        assert host.udp_in(60001, 50000)
        assert host.udp_out(60001, 50000)
        crowd = range(1, 3 * MAX_FLOWS_OF_PEER)
        if how == "crowded out before":
            assert all(host.udp_in(22, port) for port in crowd)
        if how == "gone":
            host.filter.set_peers(OWN, {}, host.now)
        host.allow("22")
        if how == "silent":
            host.now += UDP_LIFETIME + 1
        if how == "crowded out":
            assert all(host.udp_in(22, port) for port in crowd)
        assert not host.udp_out(60001, 50000)
        assert not host.udp_in(60001, 50000)
        assert host.udp_out(40000, 53)
        assert host.udp_in(40000, 53)
        host.allow("22,60001")
        assert host.udp_out(60001, 50000)

    def test_who_has_been_served_on_very_many_udp_ports_may_have_been_on_all(self) -> None:
        host = Host("1-2000")
        for port in range(1, MOST_SERVED + 1):
            assert host.udp_in(port, 50000)
        host.allow("none")
        assert not host.udp_out(1999, 50000)

    def test_nor_does_a_flow_that_is_shut_by_crowding_it_out(self) -> None:
        host = Host("22,50000")
        host.accept(50000, 50000)
        host.allow("22")
        for port in range(1, 3 * MAX_FLOWS_OF_PEER):
            host.udp_in(22, port)
        assert not host.tcp_out(50000, 50000, payload=b"output")
        assert not host.tcp_in(50000, 50000, payload=b"typed")

    def test_nor_one_of_a_peer_that_was_gone_in_between_even_with_another_key(self) -> None:
        host = Host("50000")
        host.accept(50000, 50000)
        policy = workspace_policy(PeerAccess(NO_PORTS))
        host.filter.set_peers(OWN, {}, host.now)
        host.filter.set_peers(OWN, {OTHER_KEY: (PEER, policy)}, host.now)
        assert not host.tcp_out(50000, 50000, payload=b"output")
        assert not host.takes(ipv6(PEER, OWN, TCP, tcp_body(50000, 50000, ACK)), OTHER_KEY)

    def test_after_very_many_changes_everything_counts_as_once_accepted(self) -> None:
        host = Host()
        for port in range(1, MOST_FORMER + 3):
            host.allow(str(port))
        host.allow("none")
        assert not host.tcp_out(50000, 50000)

    @pytest.mark.parametrize("is_inbound", [True, False])
    def test_the_next_segment_of_either_end_resets_both(self, is_inbound: bool) -> None:
        host = Host("22")
        host.accept(22, 50000)
        host.allow("none")
        body = struct.pack(">HHIIBBHHH", 50000, 22, 1000, 2000, 0x50, ACK, 500, 0, 0)
        packet = ipv6(PEER, OWN, TCP, body + b"typed")
        if not is_inbound:
            body = struct.pack(">HHIIBBHHH", 22, 50000, 2000, 1000, 0x50, ACK, 500, 0, 0)
            packet = ipv6(OWN, PEER, TCP, body + b"output")
        assert not (host.takes(packet) if is_inbound else host.sends(packet))
        to_host, to_peer = host.filter.poll_for_host(), host.filter.poll_answer()
        assert to_host is not None
        assert to_peer is not None
        assert (to_host[8:24], to_host[24:40]) == (PEER, OWN)
        assert (to_peer[8:24], to_peer[24:40]) == (OWN, PEER)
        for reset, ports, expected in ((to_host, (50000, 22), 1000), (to_peer, (22, 50000), 2000)):
            header = parse_tcp(reset[40:])
            assert (header.source_port, header.destination_port, header.sequence) == (*ports, expected)
            assert header.flags & RST
            assert checksum(reset[40:], pseudo_header_sum(reset[8:40], TCP, len(reset) - 40)) == 0

    def test_resets_are_not_answered_and_few(self) -> None:
        host = Host("22")
        host.accept(22, 50000)
        host.allow("none")
        for _ in range(100):
            assert not host.tcp_in(22, 50000, RST | ACK)
        assert host.filter.poll_answer() is None
        for _ in range(100):
            assert not host.tcp_in(22, 50000)
        assert host.counters["packetfilter.resets"] == 10

    def test_what_this_node_began_goes_on(self) -> None:
        host = Host("all")
        host.connect(40000, 22)
        host.allow("none")
        assert host.tcp_in(40000, 22)

    def test_given_back_it_is_open_again(self) -> None:
        host = Host("22")
        host.accept(22, 50000)
        host.allow("none")
        assert not host.tcp_in(22, 50000)
        host.allow("22")
        assert host.tcp_in(22, 50000)
        host.accept(22, 50001)

    def test_ports_that_an_ended_one_had_serve_a_connection_of_our_own(self) -> None:
        host = Host("50000")
        host.accept(50000, 22)
        host.allow("none")
        assert not host.tcp_in(50000, 22)
        host.connect(50000, 22)

    def test_a_peer_that_is_gone_takes_its_flows_along(self) -> None:
        host = Host("22")
        host.accept(22, 50000)
        host.connect(40000, 22)
        policy = workspace_policy(PeerAccess(NO_PORTS))
        host.filter.set_peers(OWN, {OTHER_KEY: (OTHER, policy)}, host.now)
        assert not host.tcp_in(40000, 22)
        assert host.drops == {"unknown_peer": 1}
        host.filter.set_peers(OWN, {OTHER_KEY: (OTHER, policy), PEER_KEY: (PEER, policy)}, host.now)
        assert not host.tcp_in(40000, 22)
        assert not host.tcp_in(22, 50000)

    def test_a_node_with_another_address_begins_anew(self) -> None:
        host = Host()
        host.connect(40000, 22)
        host.filter.set_peers(OTHER, {PEER_KEY: (PEER, workspace_policy(PeerAccess(NO_PORTS)))}, host.now)
        assert not host.takes(ipv6(PEER, OTHER, TCP, tcp_body(22, 40000, ACK)))
        assert host.sends(ipv6(OWN, PEER, UDP, udp_body(40000, 53)))  # from the address of before
        assert not host.takes(ipv6(PEER, OTHER, UDP, udp_body(53, 40000)))


class TestAfterARestart:
    def test_a_download_of_this_nodes_goes_on_with_its_next_acknowledgement(self) -> None:
        host = Host()
        host.connect(40000, 22)
        host.restart()
        assert not host.tcp_in(40000, 22, payload=b"data")  # it is repeated
        assert host.tcp_out(40000, 22)
        assert host.tcp_in(40000, 22, payload=b"data")
        host.now += ESTABLISHED_LIFETIME - 1
        assert host.tcp_in(40000, 22)

    def test_where_the_peer_alone_speaks_the_host_is_asked_and_its_answer_picks_it_up(self) -> None:
        host = Host()
        host.restart()
        body = struct.pack(">HHIIBBHHH", 22, 40000, 1000, 2000, 0x50, ACK, 500, 0, 0)
        assert not host.takes(ipv6(PEER, OWN, TCP, body + b"data"))
        question = host.filter.poll_for_host()
        assert question is not None
        header = parse_tcp(question[40:])
        assert (question[8:24], question[24:40]) == (PEER, OWN)
        assert (header.source_port, header.destination_port, header.flags) == (22, 40000, ACK)
        assert header.sequence == (1000 - (1 << 30)) % (1 << 32)  # far behind: nobody takes it for data
        assert header.acknowledgement == 2000  # so the RST of a host without such a connection is believed
        assert len(question) == 60
        assert checksum(question[40:], pseudo_header_sum(question[8:40], TCP, 20)) == 0
        assert host.filter.poll_answer() is None
        assert host.tcp_out(40000, 22)  # the acknowledgement of the host
        assert host.tcp_in(40000, 22, payload=b"data")

    @pytest.mark.parametrize("flags", [SYN, SYN | ACK, RST, RST | ACK, FIN, 0])
    def test_the_host_is_asked_about_nothing_but_segments_of_connections(self, flags: int) -> None:
        host = Host()
        assert not host.tcp_in(40000, 22, flags)
        assert host.filter.poll_for_host() is None

    def test_the_host_is_not_asked_about_ports_of_services_and_ten_times_a_second_at_most(self) -> None:
        host = Host("50000")
        host.allow("none")
        assert not host.tcp_in(22, 40000)
        assert not host.tcp_in(50000, 40000)
        assert host.filter.poll_for_host() is None
        for port in range(40000, 41000):
            assert not host.tcp_in(port, 22)
        assert host.counters["packetfilter.questions"] == 10

    def test_who_answers_did_not_begin(self) -> None:
        """A SYN that has come by another way, from a neighbour that writes the peer's address on it."""
        host = Host()
        assert not host.tcp_out(50000, 50000, SYN | ACK)
        assert not host.tcp_in(50000, 50000)

    def test_a_connection_to_a_port_that_is_accepted_goes_on_from_either_end(self) -> None:
        host = Host("22")
        host.restart("22")
        assert host.tcp_in(22, 50000, payload=b"typed")
        assert host.tcp_out(22, 50000)
        host.restart("22")
        assert host.tcp_out(22, 50000, payload=b"output")
        assert host.tcp_in(22, 50000)

    def test_one_to_a_port_that_is_not_accepted_any_more_does_not(self) -> None:
        host = Host("22")
        host.accept(22, 50000)
        host.restart("none")
        assert not host.tcp_out(22, 50000, payload=b"output")
        assert not host.tcp_in(22, 50000)

    def test_where_it_was_picked_up_it_ends_when_access_narrows(self) -> None:
        host = Host()
        host.restart("22")
        assert host.tcp_out(22, 50000, payload=b"output")
        host.allow("none")
        assert not host.tcp_in(22, 50000)
        assert not host.tcp_out(22, 50000)

    def test_the_kernels_own_range_of_ports_counts(self) -> None:
        host = Host(ephemeral=(1024, 65535))
        assert host.tcp_out(2000, 22)
        assert host.tcp_in(2000, 22)

    def test_a_last_reset_opens_nothing(self) -> None:
        host = Host()
        assert host.tcp_out(40000, 22, RST)
        assert not host.tcp_in(40000, 22)
        assert host.filter.n_flows(PEER_KEY) == 0
