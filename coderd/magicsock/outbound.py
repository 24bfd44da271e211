"""What leaves this node: the queue of batches, and the ways that WireGuard's batches take to a peer."""

from collections import deque
from collections.abc import Hashable

from coderd.magicsock.endpoint import FEW_DATAGRAMS, Route
from coderd.magicsock.local_network import LocalNetwork
from coderd.magicsock.peer_state import PeerState
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.relay_set import RelaySet
from coderd.metrics import Counters
from coderd.model.addresses import AddrPort
from coderd.model.paths import Pin
from coderd.model.transport import (
    MAIN_SOCKET,
    DerpSource,
    DerpTransmit,
    SocketId,
    UdpSource,
    UdpTransmit,
)

MOST_PLACES = 16
"""Addresses that a handshake is sent to while no path to the peer is proven."""
HEARD_LATELY = 3.0
"""Seconds for which an address where WireGuard heard a peer is enough to send to, without a path."""
SETTLED_AFTER = 10.0
"""Seconds after which a direct path is old enough to carry handshakes alone."""


class Outbound:
    """Queue of transmits, and the sender of WireGuard's batches.

    Args:
        relays: which relays reach whom.
        local_network: which address families there are sockets for.
        budget: limits handshakes to unproven addresses as it limits pings.
        counters: ``magicsock.drop.*`` are counted here.
    """

    def __init__(
        self, *, relays: RelaySet, local_network: LocalNetwork, budget: PingBudget, counters: Counters
    ) -> None:
        self._relays = relays
        self._local_network = local_network
        self._budget = budget
        self._counters = counters
        self._transmits: deque[UdpTransmit | DerpTransmit] = deque()

    def poll_transmit(self) -> UdpTransmit | DerpTransmit | None:
        """Returns the next batch for a socket or a relay, or None."""
        return self._transmits.popleft() if self._transmits else None

    # Packets of our own

    def send_udp(self, addr: AddrPort, packet: bytes, socket: SocketId = MAIN_SOCKET) -> None:
        """Queues one datagram of disco or STUN."""
        self._transmits.append(UdpTransmit(addr, [packet], len(packet), socket=socket))

    def send_relayed(self, state: PeerState, packet: bytes) -> None:
        """Queues one packet to a peer through the relay that reaches it."""
        region = self._relays.region_for(state.relay)
        self._transmits.append(DerpTransmit(region, state.peer.node_key, [packet]))

    def answer(self, source: DerpSource, packet: bytes) -> None:
        """Queues one packet to a sender through the relay that it came by."""
        self._transmits.append(DerpTransmit(source.region, source.key, [packet]))

    # WireGuard's batches

    def answer_batch(self, source: Hashable, datagrams: list[bytes], segment_size: int, tos: int = 0) -> None:
        """Queues a batch back to where something came from. Raises TypeError if that is no source of ours."""
        if isinstance(source, UdpSource):
            self._transmits.append(
                UdpTransmit(source.addr, datagrams, segment_size, tos=tos, socket=source.socket)
            )
        elif isinstance(source, DerpSource):
            self._transmits.append(DerpTransmit(source.region, source.key, datagrams))
        else:
            raise TypeError(f"nothing can be sent to a {type(source).__name__}")

    def send_batch(
        self,
        state: PeerState,
        datagrams: list[bytes],
        segment_size: int,
        now: float,
        tos: int,
        *,
        is_handshake: bool,
    ) -> None:
        """Queues a batch to a peer by its best path, by relay, by both, or counts it as dropped."""
        endpoint, log = state.endpoint, state.log
        route = endpoint.route(len(datagrams), now)
        if is_handshake and route.udp is not None:
            route = _with_relay(route, state, now)
        n_bytes = sum(map(len, datagrams))
        if route.udp is not None:
            log.tx_direct += n_bytes
            self._transmits.append(
                UdpTransmit(route.udp, datagrams, segment_size, tos=tos, socket=route.socket)
            )
        if route.by_relay:
            log.tx_relay += n_bytes
            self._transmits.append(
                DerpTransmit(self._relays.region_for(state.relay), endpoint.key, datagrams)
            )
        if route.udp is None and len(datagrams) <= FEW_DATAGRAMS:
            self._send_unproven(state, datagrams, segment_size, now, tos, is_handshake=is_handshake)
        if route.udp is None and not route.by_relay:
            self._counters["magicsock.drop.no_path"] += len(datagrams)

    def _send_unproven(
        self,
        state: PeerState,
        datagrams: list[bytes],
        segment_size: int,
        now: float,
        tos: int,
        *,
        is_handshake: bool,
    ) -> None:
        """Sends a few datagrams where no path is proven.

        They go to where WireGuard heard the peer; handshakes go to any candidate.

        A handshake so succeeds although the server is gone and disco keys are not what it said. Where a relay
        reaches the peer, handshakes still go both ways, as a peer that has just restarted may not be at its
        relay yet. None of these addresses is proven to be the peer's: handshakes count as pings do, and data
        is limited to thrice what came.
        """
        endpoint = state.endpoint
        if not endpoint.allows_direct or endpoint.pin is Pin.RELAY:
            return
        if self._relays.reaches(state.relay) and not is_handshake:
            return
        heard = state.heard_from
        if heard is not None and now - heard.at <= HEARD_LATELY:
            places = [heard.addr]
        else:
            heard, places = None, endpoint.prober.addresses()[:MOST_PLACES]
        n_bytes = sum(map(len, datagrams))
        for addr in filter(self._local_network.can_send_to, places):
            if (
                endpoint.prober.has_answered(addr, now)
                or (heard is not None and heard.spend(n_bytes))
                or (is_handshake and self._budget.take(endpoint.key, addr, now, is_new_flow=True))
            ):
                self._transmits.append(UdpTransmit(addr, datagrams, segment_size, tos=tos))


def _with_relay(route: Route, state: PeerState, now: float) -> Route:
    """Adds the relay to a handshake's route over a path so new that its loss is unknown.

    A lost handshake costs five seconds; the second copy is dropped as a replay before it counts towards a
    flood.
    """
    may_be_relayed = state.relay.is_known and state.endpoint.pin is Pin.ANY
    return route._replace(
        by_relay=route.by_relay or (may_be_relayed and now - state.log.since < SETTLED_AFTER)
    )
