"""Which packets of peers reach this host.

Everything that nobody asked for is refused, unless the peer's policy accepts it.

**Who began.** Of TCP, whoever sent the SYN: an inbound SYN without ACK begins a connection, and the policy
alone decides on it, whatever flow has its ports. Of UDP and echo, whoever sent first. What this node sends is
believed: it opens flows.

**Always admitted:** what belongs to a flow; ICMPv6 errors that quote a packet of one; ``ECHO_RATE`` echo
requests a second of each peer. Of a peer that may begin everything all passes, of whatever protocol but the
daemons' own, and its flows are followed all the same, for the day when it may not.

**What cannot be read is not guessed.** Only the first header decides. An extension header is a protocol of
its own, and no port is ever read from behind one, save in fragments: the first one decides for UDP and ICMPv6
as the whole packet would, and the rest passes if it comes after. TCP in fragments, whose flags can be hidden
in a second one, is refused. The tunnel's MTU makes fragments rare: only datagrams larger than it have any.

**After a restart** the table is empty while the kernels' connections go on, so flows are picked up where they
stand: by an inbound TCP packet that is no SYN to a port that the peer may begin; by an outbound one, if its
local port is such a port, or one of those that the kernel gives to whoever connects (``ephemeral``). The
second condition is what keeps a connection ended that the peer began while it was allowed: its local port is
a service's. A service's port that is an ephemeral one too counts as the service's once the peer could begin
on it, whatever has become of the flow; only where the daemon restarts in the very moment that access narrows
does such a connection live on. A client that binds a low port must connect anew after a restart. Who only
reads sends nothing by which its connection could be picked up: so where the peer speaks on an ephemeral port,
this host is asked, by a segment to which a connection answers with an acknowledgement, and anything else with
a RST.

**When access narrows,** what the peer began and may not begin any more ends at once, both ways: its flow is
kept, shut, so that our own kernel's retransmissions do not open it anew. With its next segment, whichever end
sends it, both kernels are sent a RST: a shell on it ends then, and nobody waits for hours. A service by UDP
does not know that a flow has ended and may send for ever: from a port on which the peer has begun, and may
not any more, nothing opens a flow. (A daemon that restarts has forgotten that: a UDP service that still sends
to somebody should be restarted as well.)

**Refused** packets are counted as ``packetfilter.drop.*``. Whoever opened a TCP connection or sent UDP is
told so by an ICMPv6 error, so that ``connect`` fails at once and does not hang for two minutes; a RST would
say that nobody listens, which is not known here. Errors are limited, and smaller than the packet's headers
and ours together.

Cost: one lookup per run of packets with equal headers, and per TUN read.
"""

from collections import deque
from collections.abc import Mapping

from coderd.metrics import Counters
from coderd.model import Buffer
from coderd.model.keys import NodePublic
from coderd.packet import PROTOCOL_TCP, PROTOCOL_UDP
from coderd.packet.ip import IPV6_HEADER_SIZE
from coderd.packet.transport import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from coderd.packetfilter.flow import (
    ECHO_LIFETIME,
    FRAGMENT_LIFETIME,
    OPENING_LIFETIME,
    OURS,
    THEIRS,
    UDP_LIFETIME,
    Flow,
)
from coderd.packetfilter.icmp import (
    ECHO_REPLY,
    ECHO_REQUEST,
    ERRORS,
    PROTOCOL_ICMPV6,
    echo_key,
    encode_refusal,
    quoted_key,
)
from coderd.packetfilter.peer import FormerPolicies, PeerFlows, ServedPorts
from coderd.packetfilter.policy import InboundPolicy
from coderd.packetfilter.reset import encode_question, encode_reset_back, encode_reset_onward

MAX_ANSWERS = 256
"""Refusals and resets that wait to be sent."""
LINUX_EPHEMERAL = (32_768, 60_999)
"""Linux's default ports of sockets that connect (``net.ipv4.ip_local_port_range``)."""

PROTOCOL_FRAGMENT = 44
PROTOCOL_DAEMONS = 99
"""What daemons say to each other (``engine/introduction.py``).

The data plane takes it out before, and no host ever gets any.
"""

_HEAD = 44
"""Bytes that decide: the IPv6 header, and both ports."""
_BEHIND_FRAGMENT = 48
"""Where the header begins that a fragment header says is next."""
_TCP_FLAGS = 53
_TCP_END = 60
_CHANGES_STATE = TCP_SYN | TCP_FIN | TCP_RST

ADMITTED = ""
_UDP_BYTE = bytes((PROTOCOL_UDP,))


class PacketFilter:
    """The filter of one node. Knows no peer until ``set_peers``.

    Args:
        counters: what was refused, and why, is added here.
        ephemeral: first and last of the ports that this host's kernel gives to sockets that connect.
    """

    def __init__(self, *, counters: Counters, ephemeral: tuple[int, int] = LINUX_EPHEMERAL) -> None:
        self._counters = counters
        self._ephemeral = ephemeral
        self._own_address = b""
        self._peers: dict[NodePublic, PeerFlows] = {}
        self._formerly, self._served = FormerPolicies(), ServedPorts()
        self._by_address: dict[bytes, PeerFlows] = {}
        self._answers: deque[bytes] = deque(maxlen=MAX_ANSWERS)
        self._for_host: deque[bytes] = deque(maxlen=MAX_ANSWERS)
        self._last_head: bytes | None = None
        """Of the last outbound packet, where the next like it needs no look at the table."""
        self._last_flow = Flow(is_theirs=False, lifetime=0.0)

    # Commands

    def set_peers(
        self, own_address: bytes, peers: Mapping[NodePublic, tuple[bytes, InboundPolicy]], now: float
    ) -> None:
        """Makes the peers these.

        Flows of who is gone are forgotten; those that are not allowed any more end at once.

        Args:
            own_address: this node's packed address.
            peers: each one's packed address, and what it may begin.
            now: seconds.
        """
        if own_address != self._own_address:
            self._own_address = own_address
            self._peers.clear()
            self._formerly, self._served = FormerPolicies(), ServedPorts()
        before, self._peers = self._peers, {}
        for key, known in before.items():
            if peers.get(key) != (known.address, known.policy):
                self._formerly.note(known.address, known.policy)
        for key, (address, policy) in peers.items():
            peer = before.get(key)
            if peer is None or peer.address != address:
                peer = PeerFlows(address, policy)
            elif peer.policy != policy:
                peer.policy = policy
                peer.flows.hold_to(policy.accepts, now)
            self._peers[key] = peer
        self._by_address = {peer.address: peer for peer in self._peers.values()}
        self._last_head = None

    # Packets

    def admit(self, key: NodePublic, packets: list[Buffer], now: float) -> list[Buffer]:
        """Returns those of a peer's packets that may enter the TUN, in order; counts the rest.

        Args:
            key: whose they are.
            packets: whole IP packets from the peer's address to this node's, as WireGuard has made sure.
            now: seconds.
        """
        peer = self._peers.get(key)
        if peer is None:
            self._counters["packetfilter.drop.unknown_peer"] += len(packets)
            return []
        admitted: list[Buffer] = []
        head, is_tcp, reason = None, False, ADMITTED
        if (steady := peer.steady) is not None and steady.expires_at > now and peer.head is not None:
            steady.expires_at = now + steady.lifetime
            head, is_tcp = peer.head, peer.head[6] == PROTOCOL_TCP
        for packet in packets:
            if packet[:_HEAD] != head or (is_tcp and packet[_TCP_FLAGS] & _CHANGES_STATE):
                reason = self._judge(peer, packet, now)
                is_tcp = _is_steady_tcp(packet)
                head = peer.head = bytes(packet[:_HEAD]) if is_tcp or _is_udp(packet) else None
            if reason is ADMITTED:
                admitted.append(packet)
            else:
                self._counters[f"packetfilter.drop.{reason}"] += 1
        return admitted

    def note_outbound(self, packet: Buffer, now: float) -> bool:
        """Follows what this host sends: a packet or super-packet as the TUN gave it.

        False: it belongs to a flow that has ended.
        """
        head = bytes(packet[6:_HEAD])
        if (
            head == self._last_head
            and self._last_flow.expires_at > now
            and (
                head[0] == PROTOCOL_UDP
                or (len(packet) >= _TCP_END and not packet[_TCP_FLAGS] & _CHANGES_STATE)
            )
        ):
            self._last_flow.expires_at = now + self._last_flow.lifetime
            return True
        self._last_head = None
        peer = self._by_address.get(head[18:34])
        if peer is None or head[2:18] != self._own_address or packet[0] >> 4 != 6:
            return True
        reason = self._follow(peer, head, packet, now)
        if reason is not ADMITTED:
            self._counters[f"packetfilter.drop.{reason}"] += 1
        return reason is ADMITTED

    def poll_answer(self) -> bytes | None:
        """Returns the next packet that tells a peer of a refusal, or of a connection's end."""
        return self._answers.popleft() if self._answers else None

    def poll_for_host(self) -> bytes | None:
        """Returns the next packet that tells this host of a connection's end."""
        return self._for_host.popleft() if self._for_host else None

    # Looking

    def n_flows(self, key: NodePublic) -> int:
        """Returns the number of a peer's flows in the table."""
        peer = self._peers.get(key)
        return len(peer.flows) if peer is not None else 0

    # Inbound

    def _judge(self, peer: PeerFlows, packet: Buffer, now: float) -> str:
        """Why a packet is refused; ``ADMITTED``: it is not."""
        peer.steady = None
        if len(packet) < _HEAD or packet[0] >> 4 != 6:
            return "malformed"
        protocol = packet[6]
        if protocol == PROTOCOL_TCP:
            return self._judge_tcp(peer, packet, now)
        if protocol == PROTOCOL_UDP:
            return self._judge_udp(peer, packet, IPV6_HEADER_SIZE, now)
        if peer.policy.is_open and protocol != PROTOCOL_DAEMONS:
            return ADMITTED
        if protocol == PROTOCOL_ICMPV6:
            return self._judge_icmp(peer, packet, IPV6_HEADER_SIZE, now)
        if protocol == PROTOCOL_FRAGMENT:
            return self._judge_fragment(peer, packet, now)
        return "protocol"

    def _judge_tcp(self, peer: PeerFlows, packet: Buffer, now: float) -> str:
        if len(packet) < _TCP_END:
            return "malformed"
        flags = packet[_TCP_FLAGS]
        key = bytes(packet[6:7]) + bytes(packet[42:44]) + bytes(packet[40:42])
        flow = peer.flows.find(key, now)
        if flags & (TCP_SYN | TCP_ACK) == TCP_SYN:
            return self._judge_syn(peer, packet, key, flow, now)
        if flow is None:
            if not peer.policy.accepts(PROTOCOL_TCP, int.from_bytes(key[1:3])):
                self._ask_host(peer, packet, key, now)
                return "unknown_flow"
            is_over = flags & TCP_RST
            return (
                ADMITTED
                if is_over
                else self._open(peer, key, Flow(is_theirs=True, lifetime=OPENING_LIFETIME), now)
            )
        if flow.is_ended:
            flow.touch(now)
            self._reset(peer, packet, now, onward=self._for_host, back=self._answers)
            return "ended"
        if flags & TCP_RST:
            peer.flows.close(key, flow)
        elif flags & TCP_FIN:
            self._note_fin(peer, key, flow, THEIRS)
        elif flow.has_sent and not (flow.is_established or flow.is_closing):
            peer.flows.establish(key, flow)
        elif flow.is_established:
            peer.steady = flow
        flow.touch(now)
        return ADMITTED

    def _judge_syn(self, peer: PeerFlows, packet: Buffer, key: bytes, flow: Flow | None, now: float) -> str:
        """A beginning: asked of the policy, even where the ports are a flow's that this node began."""
        if not peer.policy.accepts(PROTOCOL_TCP, int.from_bytes(key[1:3])):
            return self._refuse(peer, packet, now)
        if flow is not None and not flow.is_closing:
            flow.touch(now)
            return ADMITTED  # a repetition, or a matter for the kernel
        return self._open(peer, key, Flow(is_theirs=True, lifetime=OPENING_LIFETIME), now)

    def _judge_udp(self, peer: PeerFlows, packet: Buffer, at: int, now: float) -> str:
        if len(packet) < at + 8:
            return "malformed"
        key = _UDP_BYTE + bytes(packet[at + 2 : at + 4]) + bytes(packet[at : at + 2])
        flow = peer.flows.find(key, now)
        if flow is None:
            if not peer.policy.accepts(PROTOCOL_UDP, port := int.from_bytes(key[1:3])):
                return self._refuse(peer, packet, now)
            self._served.note(peer.address, port)
            return self._open(peer, key, Flow(is_theirs=True, lifetime=UDP_LIFETIME), now)
        flow.touch(now)
        if flow.is_ended:
            return "ended"
        peer.steady = flow
        return ADMITTED

    def _judge_icmp(self, peer: PeerFlows, packet: Buffer, at: int, now: float) -> str:
        if len(packet) < at + 8:
            return "malformed"
        kind = packet[at]
        if kind == ECHO_REQUEST:
            return ADMITTED if peer.echoes.take(now) else "echo_rate"
        if kind == ECHO_REPLY:
            return ADMITTED if peer.flows.find(echo_key(packet, at), now) is not None else "echo_reply"
        if kind not in ERRORS:
            return "protocol"
        key = quoted_key(packet, at)
        flow = peer.flows.find(key, now) if key is not None else None
        return ADMITTED if flow is not None and not flow.is_ended else "icmp_error"

    def _judge_fragment(self, peer: PeerFlows, packet: Buffer, now: float) -> str:
        """The first fragment decides, for UDP and ICMPv6.

        What follows it passes for as long as it could be reassembled.
        """
        if len(packet) < _BEHIND_FRAGMENT + 8:
            return "fragment"
        key = bytes((PROTOCOL_FRAGMENT,)) + bytes(packet[44:48])
        if int.from_bytes(packet[42:44]) >> 3:
            return ADMITTED if peer.flows.find(key, now) is not None else "fragment"
        reason = "fragment"
        if packet[40] == PROTOCOL_UDP:
            reason = self._judge_udp(peer, packet, _BEHIND_FRAGMENT, now)
        elif packet[40] == PROTOCOL_ICMPV6:
            reason = self._judge_icmp(peer, packet, _BEHIND_FRAGMENT, now)
        if reason is ADMITTED:
            return self._open(peer, key, Flow(is_theirs=True, lifetime=FRAGMENT_LIFETIME), now)
        return reason

    def _open(self, peer: PeerFlows, key: bytes, flow: Flow, now: float) -> str:
        is_followed = peer.flows.open(key, flow, now)
        return ADMITTED if is_followed or peer.policy.is_open else "table_full"

    def _refuse(self, peer: PeerFlows, packet: Buffer, now: float) -> str:
        if peer.refusals.take(now):
            self._answers.append(encode_refusal(packet))
            self._counters["packetfilter.refusals"] += 1
        return "not_accepted"

    def _reset(
        self, peer: PeerFlows, segment: Buffer, now: float, *, onward: deque[bytes], back: deque[bytes]
    ) -> None:
        """Has both kernels drop a connection that is not allowed any more.

        What runs on it ends, and nobody waits.
        """
        flags = segment[_TCP_FLAGS]
        if flags & TCP_ACK and not flags & TCP_RST and peer.refusals.take(now):
            onward.append(encode_reset_onward(segment))
            back.append(encode_reset_back(segment))
            self._counters["packetfilter.resets"] += 1

    def _ask_host(self, peer: PeerFlows, segment: Buffer, key: bytes, now: float) -> None:
        """Whether this host has a connection that was there before the table.

        Its acknowledgement will be picked up.
        """
        is_of_connection = segment[_TCP_FLAGS] & (TCP_ACK | TCP_SYN | TCP_RST) == TCP_ACK
        port = int.from_bytes(key[1:3])
        if is_of_connection and self._is_clients(peer, port) and peer.questions.take(now):
            self._for_host.append(encode_question(segment))
            self._counters["packetfilter.questions"] += 1

    def _is_clients(self, peer: PeerFlows, port: int) -> bool:
        """Whether a port is of those that connect, and was none on which the peer could begin."""
        is_ephemeral = self._ephemeral[0] <= port <= self._ephemeral[1]
        return is_ephemeral and not self._formerly.accepted(peer.address, PROTOCOL_TCP, port)

    # Outbound

    def _follow(self, peer: PeerFlows, head: bytes, packet: Buffer, now: float) -> str:
        """Notes what this host sends to a peer, in the table.

        ``head``: the packet from its next header on.
        """
        protocol, at = head[0], IPV6_HEADER_SIZE
        if protocol == PROTOCOL_TCP:
            if len(packet) < _TCP_END:
                return ADMITTED
            reason = self._follow_tcp(peer, head, packet[_TCP_FLAGS], now)
            if reason is not ADMITTED:
                self._reset(peer, packet, now, onward=self._answers, back=self._for_host)
            return reason
        if protocol == PROTOCOL_FRAGMENT and len(packet) > at + 3 and not int.from_bytes(packet[42:44]) >> 3:
            protocol, at = packet[at], _BEHIND_FRAGMENT
        if len(packet) < at + 8:
            return ADMITTED
        if protocol == PROTOCOL_UDP:
            return self._follow_udp(peer, head, _UDP_BYTE + bytes(packet[at : at + 4]), now)
        if protocol == PROTOCOL_ICMPV6 and packet[at] == ECHO_REQUEST:
            peer.flows.open(echo_key(packet, at), Flow(is_theirs=False, lifetime=ECHO_LIFETIME), now)
        return ADMITTED

    def _follow_tcp(self, peer: PeerFlows, head: bytes, flags: int, now: float) -> str:
        key = head[:1] + head[34:38]
        flow = peer.flows.find(key, now)
        if flags & (TCP_SYN | TCP_ACK) == TCP_SYN:
            if flow is None or flow.is_theirs or flow.is_closing:
                flow = Flow(is_theirs=False, lifetime=OPENING_LIFETIME)
                if not peer.flows.open(key, flow, now):
                    self._counters["packetfilter.unfollowed"] += 1
            flow.has_sent = True
            flow.touch(now)
            return ADMITTED
        if flow is None:
            return self._pick_up(peer, key, flags, now)
        if flow.is_ended:
            flow.touch(now)
            return "ended"
        flow.has_sent = True
        if flags & TCP_RST:
            peer.flows.close(key, flow)
        elif flags & TCP_FIN:
            self._note_fin(peer, key, flow, OURS)
        flow.touch(now)
        self._last_head, self._last_flow = head, flow
        return ADMITTED

    def _pick_up(self, peer: PeerFlows, key: bytes, flags: int, now: float) -> str:
        """A connection of before this table; see the module's text."""
        if flags & TCP_RST:
            return ADMITTED
        port = int.from_bytes(key[1:3])
        is_theirs = peer.policy.accepts(PROTOCOL_TCP, port)
        if not is_theirs and (flags & TCP_SYN or not self._is_clients(peer, port)):
            return "ended"  # a SYN here has an ACK: who answers did not begin
        flow = Flow(is_theirs=is_theirs, lifetime=OPENING_LIFETIME)
        flow.has_sent = True
        if not peer.flows.open(key, flow, now):
            self._counters["packetfilter.unfollowed"] += 1
        elif not flags & TCP_SYN:
            peer.flows.establish(key, flow)
            flow.touch(now)
        return ADMITTED

    def _follow_udp(self, peer: PeerFlows, head: bytes, key: bytes, now: float) -> str:
        flow = peer.flows.find(key, now)
        if flow is None:
            port = int.from_bytes(key[1:3])
            if self._served.has(peer.address, port) and not peer.policy.accepts(PROTOCOL_UDP, port):
                return "ended"
            flow = Flow(is_theirs=False, lifetime=UDP_LIFETIME)
            if not peer.flows.open(key, flow, now):
                self._counters["packetfilter.unfollowed"] += 1
        elif flow.is_ended:
            return "ended"
        flow.touch(now)
        if head[0] == PROTOCOL_UDP:
            self._last_head, self._last_flow = head, flow
        return ADMITTED

    # TCP

    def _note_fin(self, peer: PeerFlows, key: bytes, flow: Flow, end: int) -> None:
        """When both ends have sent a FIN the connection is over; half-closed it may go on for long."""
        flow.fins |= end
        if flow.fins == OURS | THEIRS:
            peer.flows.close(key, flow)


def _is_steady_tcp(packet: Buffer) -> bool:
    """Whether what has been judged of a segment holds for the next with the same ports."""
    return len(packet) >= _TCP_END and packet[6] == PROTOCOL_TCP and not packet[_TCP_FLAGS] & _CHANGES_STATE


def _is_udp(packet: Buffer) -> bool:
    return len(packet) >= _HEAD and packet[6] == PROTOCOL_UDP
