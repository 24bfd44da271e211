"""Laws of the packet filter.

Total over any bytes, and equal to a slow model of its policy over whole conversations.
"""

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coderd.model import Buffer
from coderd.model.ports import PortSet, parse_ports
from coderd.packetfilter import InboundPolicy, PacketFilter, device_policy
from tests.unit.packetfilter.support import (
    ACK,
    FIN,
    OTHER,
    OWN,
    PEER,
    PEER_KEY,
    RST,
    SYN,
    TCP,
    UDP,
    Host,
    ipv6,
    tcp_body,
    udp_body,
)

next_headers = st.sampled_from([0, 4, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 99, 132, 135, 255])
near_packets = st.builds(
    lambda source, to, header, body, cut: ipv6(source, to, header, body)[:cut],
    st.sampled_from([PEER, OTHER, OWN]),
    st.sampled_from([PEER, OTHER, OWN]),
    next_headers,
    st.binary(max_size=120),
    st.integers(0, 160),
)
policies = st.sampled_from(["none", "22", "all", "1-65535"]).map(
    lambda text: device_policy(parse_ports(text))
)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=100) | near_packets), max_size=20), policies)
@example([(True, b""), (False, b"")], device_policy(PortSet()))
def test_any_bytes_from_either_side_are_passed_or_counted(
    packets: list[tuple[bool, bytes]], policy: InboundPolicy
) -> None:
    host = Host(policy)
    for is_inbound, packet in packets:
        n_before = sum(host.drops.values())
        passed = host.takes(packet) if is_inbound else host.sends(packet)
        assert sum(host.drops.values()) - n_before == (not passed)


@given(st.lists(st.binary(max_size=100) | near_packets, max_size=30), policies)
def test_a_batch_is_judged_as_its_packets_one_by_one(packets: list[bytes], policy: InboundPolicy) -> None:
    at_once, one_by_one = Host(policy), Host(policy)
    packets = [each for packet in packets for each in (packet, packet)]
    expected = [packet for packet in packets if one_by_one.takes(packet)]
    assert at_once.filter.admit(PEER_KEY, list[Buffer](packets), 0.0) == expected
    assert at_once.drops == one_by_one.drops


PORTS = (22, 8000, 40000)
PEER_PORTS = (22, 50000)
ports, peer_ports = st.sampled_from(PORTS), st.sampled_from(PEER_PORTS)


class Conversations(RuleBasedStateMachine):
    """The filter beside a model that knows nothing of tables, runs or caches.

    Who began what, and what is allowed now.

    Time stands still and no daemon restarts here, so what passes is a question of the policy and of the past
    alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.host = Host("22")
        self.accepted = {22}
        self.was_accepted: set[int] = set()
        """Ports on which the peer could begin before a change.

        What is there is never this node's own, though nobody knows.
        """
        self.was_served: set[int] = set()
        """The same of UDP ports on which the peer has begun."""
        self.begun: dict[tuple[int, int, int], str] = {}
        """Who began a flow of protocol, port and peer's port; ``ended`` if no longer allowed."""
        self.closed: set[tuple[int, int, int]] = set()
        """Those that have been reset: whoever connects next has begun a new one."""

    @rule(accepted=st.sets(st.sampled_from(PORTS)))
    def the_policy_changes(self, accepted: set[int]) -> None:
        if accepted != self.accepted:
            self.was_accepted |= self.accepted
        self.accepted = accepted
        self.host.allow(",".join(map(str, sorted(accepted))) or "none")
        for key, who in list(self.begun.items()):
            if who == "peer" and key[1] not in accepted:
                self.begun[key] = "ended"
                self.closed.discard(key)
            elif who == "ended" and key[1] in accepted:
                del self.begun[key]

    @rule(port=ports, peer_port=peer_ports)
    def the_peer_connects(self, port: int, peer_port: int) -> None:
        assert self.host.tcp_in(port, peer_port, SYN) == (port in self.accepted)
        if port in self.accepted:
            key = (TCP, port, peer_port)
            if key in self.closed or key not in self.begun:
                self.begun[key] = "peer"
            self.closed.discard(key)

    @rule(port=ports, peer_port=peer_ports)
    def this_node_connects(self, port: int, peer_port: int) -> None:
        assert self.host.tcp_out(port, peer_port, SYN)
        self.begun[TCP, port, peer_port] = "node"
        self.closed.discard((TCP, port, peer_port))

    @rule(port=ports, peer_port=peer_ports, flags=st.sampled_from([ACK, SYN | ACK, 0x18]))
    def the_peer_sends_a_segment(self, port: int, peer_port: int, flags: int) -> None:
        self.check_inbound(TCP, port, peer_port, self.host.tcp_in(port, peer_port, flags))

    @rule(port=ports, peer_port=peer_ports)
    def the_peer_sends_a_datagram(self, port: int, peer_port: int) -> None:
        self.check_inbound(UDP, port, peer_port, self.host.udp_in(port, peer_port))

    def check_inbound(self, protocol: int, port: int, peer_port: int, passed: bool) -> None:
        who = self.begun.get((protocol, port, peer_port))
        assert passed == (who in ("peer", "node") or (who is None and port in self.accepted))
        if passed:
            self.begun.setdefault((protocol, port, peer_port), "peer")
        if passed and who is None and protocol == UDP:
            self.was_served.add(port)

    @rule(port=ports, peer_port=peer_ports)
    def this_node_sends_a_datagram(self, port: int, peer_port: int) -> None:
        who = self.begun.get((UDP, port, peer_port))
        is_answer = port in self.was_served - self.accepted
        assert self.host.udp_out(port, peer_port) == (who != "ended" and not (who is None and is_answer))
        if who is None and not is_answer:
            self.begun[UDP, port, peer_port] = "node"

    @rule(port=ports, peer_port=peer_ports)
    def this_node_sends_a_segment(self, port: int, peer_port: int) -> None:
        """Of a connection that is not known: as after a restart."""
        who = self.begun.get((TCP, port, peer_port))
        is_picked_up = port in self.accepted or port in {40000} - self.was_accepted
        assert self.host.tcp_out(port, peer_port) == (
            who in ("peer", "node") or (who is None and is_picked_up)
        )
        if who is None and is_picked_up:
            self.begun[TCP, port, peer_port] = "peer" if port in self.accepted else "node"

    @rule(port=ports, peer_port=peer_ports, is_ours=st.booleans())
    def a_connection_is_reset(self, port: int, peer_port: int, is_ours: bool) -> None:
        """What passes stays the same for a while, for stragglers, and the ports are free."""
        key = (TCP, port, peer_port)
        if (who := self.begun.get(key)) is None:
            return
        send = self.host.tcp_out if is_ours else self.host.tcp_in
        assert send(port, peer_port, RST | ACK) == (who != "ended")
        if who != "ended":
            self.closed.add(key)

    @rule(port=ports, peer_port=peer_ports)
    def this_node_says_that_it_has_no_more(self, port: int, peer_port: int) -> None:
        """Half-closed, a connection goes on."""
        if (who := self.begun.get((TCP, port, peer_port))) is not None:
            assert self.host.tcp_out(port, peer_port, FIN | ACK) == (who != "ended")

    @invariant()
    def nothing_from_anybody_else_passes(self) -> None:
        closed = next((port for port in PORTS if port not in self.accepted), None)
        if closed is not None:
            assert not self.host.takes(ipv6(PEER, OWN, TCP, tcp_body(51000, closed, ACK)))
            assert not self.host.takes(ipv6(PEER, OWN, UDP, udp_body(51000, closed)))


TestConversations = Conversations.TestCase
TestConversations.settings = settings(max_examples=60, stateful_step_count=40)


@given(
    st.sampled_from([TCP, UDP]) | st.integers(0, 255),
    st.sampled_from([3, 4, 21, 22, 23, 7999, 8000, 8999, 9000]) | st.integers(0, 65535),
    st.sampled_from(["none", "22,8000-8999", "all"]),
    st.booleans(),
)
def test_what_a_peer_may_begin_is_what_the_policy_says(
    protocol: int, port: int, text: str, has_services: bool
) -> None:
    """Every protocol, every port.

    Compiled or not, a first packet passes where the policy has it, and nowhere else.
    """
    services = parse_ports("3-4") if has_services else PortSet()
    policy = InboundPolicy(parse_ports(text), services)
    packet_filter = PacketFilter(counters=Counter())
    packet_filter.set_peers(OWN, {PEER_KEY: (PEER, policy)}, 0.0)
    body = tcp_body(50000, port, SYN) if protocol != UDP else udp_body(50000, port)
    if protocol in (44, 58):
        body = bytes([255]) + body[1:]
    named = {"none": (), "22,8000-8999": (22, *range(8000, 9000)), "all": range(65536)}[text]
    is_begun = (protocol in (TCP, UDP) and port in named) or (
        protocol == TCP and has_services and port in (3, 4)
    )
    is_allowed = (text == "all" and protocol != 99) or is_begun
    assert bool(packet_filter.admit(PEER_KEY, [ipv6(PEER, OWN, protocol, body)], 0.0)) == is_allowed
