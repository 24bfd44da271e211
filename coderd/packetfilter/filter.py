"""Packet filter of one node: admits known flows, and new ones that a peer's policy accepts; drops the rest.

**The opener of a flow.** An inbound TCP SYN without ACK opens a connection, and the policy alone decides on
it, even if a flow with its ports exists. A UDP flow is opened by the first datagram, an echo by the request.
Packets that this node sends are trusted: they open flows.

**Always admitted** are packets of a flow, ICMPv6 errors that quote a packet of a flow, and ``ECHO_RATE`` echo
requests per second of each peer. From a peer with an open policy every protocol passes except the daemons'
own; its flows are tracked nevertheless, for the case that the policy narrows.

**Extension headers and fragments.** The first header decides; an extension header counts as a protocol, and
no port is read from behind one. The exception are fragments: the first fragment of UDP or ICMPv6 is judged
like a whole packet, and later fragments pass if they arrive after it. TCP fragments are refused, since the
flags can hide in a later one. Only datagrams larger than the tunnel's MTU are fragmented.

**After a restart** the table is empty while the kernels' connections go on, so flows are picked up: by an
inbound TCP segment without SYN to a port that the policy accepts; by an outbound segment if its local port is
accepted by the policy, or is one that the kernel gives to connecting sockets (``ephemeral``). The condition
on outbound segments keeps a connection ended that the peer opened while it was allowed: its local port is a
service's. An ephemeral port counts as a service's once a former policy accepted it; such a connection
survives only a restart that coincides with the change of policy. A client that bound a low port must
reconnect after a restart. A client that only reads sends no segment that could be picked up, so a peer's
segment to an ephemeral port makes the filter probe this host: a kernel that has the connection answers with
an acknowledgement, which is picked up, any other with a RST.

**When a policy narrows,** flows that the peer opened and that are accepted no more end in both directions.
Each is kept, shut, so that this kernel's retransmissions do not reopen it, and its next segment, from either
end, makes the filter send a RST to both kernels: programs see the end at once. A UDP service does not learn
that a flow has ended: packets from a port on which the peer had opened flows, and may not any more, open
none. (That memory is lost when the daemon restarts: restart UDP services that still send to a removed peer as
well.)

**Dropped** packets are counted as ``packetfilter.drop.*``. A refused TCP SYN or UDP datagram is answered with
an ICMPv6 error, so that ``connect`` fails at once instead of after two minutes; a RST would claim that the
port is closed, which is not known here. The errors are rate limited, and quote at most 128 bytes.

Cost: one lookup per run of packets with equal headers, and one per TUN read.
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
"""Most packets made by the filter that wait in one direction; the oldest is dropped."""
LINUX_EPHEMERAL = (32_768, 60_999)
"""Linux's default for the ports of connecting sockets, both ends included
(``net.ipv4.ip_local_port_range``)."""

PROTOCOL_FRAGMENT = 44
PROTOCOL_DAEMONS = 99
"""IP protocol of packets between daemons (``engine/introduction.py``); the data plane takes them, no host
gets any."""

_HEAD = 44
"""Bytes that identify a flow: the IPv6 header (40), and both ports (4)."""
_BEHIND_FRAGMENT = 48
"""Offset of the header that follows IPv6 header (40) and fragment header (8)."""
_TCP_FLAGS = 53
_TCP_END = 60
_CHANGES_STATE = TCP_SYN | TCP_FIN | TCP_RST

ADMITTED = ""
_UDP_BYTE = bytes((PROTOCOL_UDP,))


class PacketFilter:
    """Packet filter of one node; drops everything until ``set_peers``.

    Args:
        counters: counts dropped packets by reason, refusals, resets and probes.
        ephemeral: first and last of the ports that this host's kernel gives to connecting sockets.
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
        """Header of the last outbound packet, if a next packet with an equal one needs no lookup in the
        table."""
        self._last_flow = Flow(is_theirs=False, lifetime=0.0)

    # Commands

    def set_peers(
        self, own_address: bytes, peers: Mapping[NodePublic, tuple[bytes, InboundPolicy]], now: float
    ) -> None:
        """Replaces the peers and their policies; flows of removed peers, and flows no longer accepted, end.

        Args:
            own_address: this node's packed IPv6 address; if it changes, all state is dropped.
            peers: packed IPv6 address and policy of each peer.
            now: seconds on a monotonic clock.
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
        """Returns those of a peer's packets that may enter the TUN, in order; counts the rest by reason.

        Args:
            key: the peer that sent them.
            packets: whole IP packets from the peer's address to this node's, which WireGuard has verified.
            now: seconds on a monotonic clock.
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
        """Tracks the flow of an outbound packet or super-packet from the TUN.

        Returns False if the flow has ended.
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
        """Returns the next ICMPv6 error or TCP reset for a peer; None if there is none."""
        return self._answers.popleft() if self._answers else None

    def poll_for_host(self) -> bytes | None:
        """Returns the next TCP reset or probe for this host's kernel; None if there is none."""
        return self._for_host.popleft() if self._for_host else None

    # Looking

    def n_flows(self, key: NodePublic) -> int:
        """Returns the number of a peer's flows in the table."""
        peer = self._peers.get(key)
        return len(peer.flows) if peer is not None else 0

    # Inbound

    def _judge(self, peer: PeerFlows, packet: Buffer, now: float) -> str:
        """Returns why a packet is dropped, or ``ADMITTED``."""
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
        """Returns why a SYN is dropped, or ``ADMITTED``.

        The policy decides, even if this node opened a flow so.
        """
        if not peer.policy.accepts(PROTOCOL_TCP, int.from_bytes(key[1:3])):
            return self._refuse(peer, packet, now)
        if flow is not None and not flow.is_closing:
            flow.touch(now)
            return ADMITTED  # retransmitted, or the kernel decides
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
        """Judges a fragment.

        The first like a whole UDP or ICMPv6 packet; later ones pass if the first was admitted.
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
        """Queues a RST for each of the two kernels, on a segment of a connection no longer allowed."""
        flags = segment[_TCP_FLAGS]
        if flags & TCP_ACK and not flags & TCP_RST and peer.refusals.take(now):
            onward.append(encode_reset_onward(segment))
            back.append(encode_reset_back(segment))
            self._counters["packetfilter.resets"] += 1

    def _ask_host(self, peer: PeerFlows, segment: Buffer, key: bytes, now: float) -> None:
        """Queues a probe of this host for a connection older than the table.

        The acknowledgement will be picked up.
        """
        is_of_connection = segment[_TCP_FLAGS] & (TCP_ACK | TCP_SYN | TCP_RST) == TCP_ACK
        port = int.from_bytes(key[1:3])
        if is_of_connection and self._is_clients(peer, port) and peer.questions.take(now):
            self._for_host.append(encode_question(segment))
            self._counters["packetfilter.questions"] += 1

    def _is_clients(self, peer: PeerFlows, port: int) -> bool:
        """Returns whether a local port is ephemeral, and no former policy of the peer accepted it."""
        is_ephemeral = self._ephemeral[0] <= port <= self._ephemeral[1]
        return is_ephemeral and not self._formerly.accepted(peer.address, PROTOCOL_TCP, port)

    # Outbound

    def _follow(self, peer: PeerFlows, head: bytes, packet: Buffer, now: float) -> str:
        """Tracks an outbound packet in the peer's table; returns why it is dropped, or ``ADMITTED``.

        Args:
            peer: the destination.
            head: bytes 6 to 44 of the packet: its IPv6 header from the next-header field on, and both ports.
            packet: the packet or super-packet.
            now: seconds on a monotonic clock.
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
        """Opens a flow for a connection older than the table, if its ports allow it.

        See the module's docstring.
        """
        if flags & TCP_RST:
            return ADMITTED
        port = int.from_bytes(key[1:3])
        is_theirs = peer.policy.accepts(PROTOCOL_TCP, port)
        if not is_theirs and (flags & TCP_SYN or not self._is_clients(peer, port)):
            return "ended"  # a SYN here has an ACK: the peer opened the connection
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
        """Notes a FIN of one end, and closes the flow once both ends have sent one."""
        flow.fins |= end
        if flow.fins == OURS | THEIRS:
            peer.flows.close(key, flow)


def _is_steady_tcp(packet: Buffer) -> bool:
    """Returns whether the decision on a TCP segment holds for the next one with equal headers."""
    return len(packet) >= _TCP_END and packet[6] == PROTOCOL_TCP and not packet[_TCP_FLAGS] & _CHANGES_STATE


def _is_udp(packet: Buffer) -> bool:
    return len(packet) >= _HEAD and packet[6] == PROTOCOL_UDP
