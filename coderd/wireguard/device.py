"""A WireGuard device: one static key, its peers, and the state that all of them share.

```
 handle_packets    inner packets -> allowed IPs -> peer.send --------------> outbox -> poll_transmit (batches)
 handle_datagrams  transport     -> index -> peer.handle_transport -> source check --> poll_packets
                   handshakes    -> MAC1 -> queue -> [under load: MAC2, limiter] -> noise -> outbox, event
```
After any command or ``handle_*`` the caller drains: ``poll_event``, ``poll_packets``, ``poll_transmit`` until
each returns None, then ``poll_timeout``. A handshake costs as much as hundreds of packets, so at most four
are processed between two drains; while more are queued, the device's deadline is in the past.
"""

import struct
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.schedule import Schedule
from coderd.wireguard.allowed_ips import AllowedIps
from coderd.wireguard.batch import cut_batches
from coderd.wireguard.ecn import with_congestion
from coderd.wireguard.handshake_gate import HandshakeGate, Queued
from coderd.wireguard.index_table import IndexTable
from coderd.wireguard.inner import admit, destination
from coderd.wireguard.local import IndexEntry, Local
from coderd.wireguard.message import (
    TRANSPORT,
    TRANSPORT_MIN_SIZE,
    CookieReply,
    Initiation,
    Response,
)
from coderd.wireguard.noise import HandshakeRejected, Identity, open_static
from coderd.wireguard.peer import Peer
from coderd.wireguard.status import (
    DeviceSecrets,
    DeviceStatus,
    Event,
    Network,
    PeerStatus,
    Received,
    Source,
    Transmit,
)
from coderd.wireguard.tai64n import TimestampClock

DEFAULT_MTU = 1280
_decode_prefix = struct.Struct("<II").unpack_from


class Device:
    """State machine of a WireGuard device and its peers, without input, output or a clock of its own.

    Args:
        rng: for keys, indices, nonces, jitter.
        now: seconds on the clock of every later ``now``.
        mtu: of the TUN device; padding never goes past it. 0 for no limit.
        counters: where dropped packets are counted, by reason, among others.
        tai64n_floor: the mark stored before a restart; every handshake timestamp is greater.
    """

    def __init__(
        self,
        *,
        rng: RandomBytes,
        now: float,
        mtu: int = DEFAULT_MTU,
        counters: Counters | None = None,
        tai64n_floor: bytes | None = None,
    ) -> None:
        self._counters: Counters = Counter() if counters is None else counters
        indices: IndexTable[IndexEntry] = IndexTable(rng)
        self._local = Local(
            rng=rng, clock=TimestampClock(tai64n_floor), indices=indices, counters=self._counters
        )
        self._local.mtu = mtu
        self._peers: dict[NodePublic, Peer] = {}
        self._allowed_ips: AllowedIps[Peer] = AllowedIps()
        self._schedule: Schedule[Peer] = Schedule()
        self._with_output: dict[NodePublic, Peer] = {}
        self._transmits: deque[Transmit] = deque()
        self._handshakes = HandshakeGate(self._local, self._transmits.append)
        self._received: deque[Received] = deque()
        self._own_address: bytes | None = None
        self._is_congested = False
        """Whether the datagrams being handled were marked CE by the network."""

    # Commands

    def set_private_key(self, key: NodePrivate | None, now: float) -> None:
        """Changes the private key; does nothing if it is the same. None: no datagram is processed.

        Sessions of the old key no longer send, its pending and queued handshakes are dropped, and a peer with
        the new public key is removed.
        """
        old = self._local.identity
        if key == (old.private if old is not None else None):
            return
        self._local.identity = Identity(key) if key is not None else None
        public = self.public_key
        self._handshakes.set_identity(public)
        if public is not None:
            self.remove_peer(public, now)
        for peer in self._peers.values():
            peer.handle_identity(now)
            self._touch(peer)

    def set_mtu(self, mtu: int) -> None:
        """Sets the TUN device's MTU, the limit of padding; raises ValueError outside of 0 to 65535 bytes."""
        if not 0 <= mtu <= 65535:
            raise ValueError(f"an MTU is 0 to 65535 bytes, not {mtu}")
        self._local.mtu = mtu

    def set_peer(
        self,
        key: NodePublic,
        now: float,
        *,
        preshared_key: bytes | None = None,
        allowed_ips: Iterable[Network] | None = None,
        persistent_keepalive: int | None = None,
    ) -> None:
        """Adds a peer or changes it. None leaves a setting as it is. The device's own key is ignored.

        Args:
            key: the peer's public key.
            now: seconds.
            preshared_key: 32 bytes; zeros for none.
            allowed_ips: all prefixes that the peer may use; each is taken from any other peer.
            persistent_keepalive: seconds from 0 to 65535, 0 for off.

        Raises:
            ValueError: a preshared key of another size, or an interval out of range.
        """
        if self._local.identity is not None and key == self._local.identity.public:
            return
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = Peer(key, self._local, now)
        if preshared_key is not None:
            peer.set_preshared_key(preshared_key)
        if allowed_ips is not None:
            self._allowed_ips.replace(peer, allowed_ips)
        if persistent_keepalive is not None:
            peer.set_persistent_keepalive(persistent_keepalive, now)
        self._touch(peer)

    def remove_peer(self, key: NodePublic, now: float) -> None:
        """Removes a peer with its prefixes, sessions and staged packets; ignores a key that is no peer's."""
        peer = self._peers.pop(key, None)
        if peer is None:
            return
        self._allowed_ips.replace(peer, ())
        self._with_output.pop(key, None)
        peer.stop()
        self._schedule.discard(peer)

    def set_own_address(self, address: bytes | None) -> None:
        """Admits decrypted packets to this packed address only; None, as initially, admits any.

        With an address, peers reach none of the host's other addresses, and the host forwards none of their
        packets.
        """
        self._own_address = address

    def up(self, now: float) -> None:
        """Starts processing of packets and datagrams; does nothing if already up."""
        if self._local.is_up:
            return
        self._local.is_up = True
        for peer in self._peers.values():
            peer.start(now)
            self._touch(peer)

    def down(self, now: float) -> None:
        """Stops processing: destroys all sessions, drops staged packets and output, keeps configuration."""
        self._local.is_up = False
        self._handshakes.clear()
        self._with_output.clear()
        self._transmits.clear()
        for peer in self._peers.values():
            peer.stop()
            self._touch(peer)

    def initiate(self, key: NodePublic, now: float, unix_now: float, *, force: bool = False) -> None:
        """Sends a peer a handshake initiation, unless an initiation or response was sent less than 5 s ago.

        Args:
            key: the peer's public key; another one is ignored.
            now: seconds.
            unix_now: wall clock in seconds, for the timestamp.
            force: ignores the 5 s, as when the peer is known to have lost its session.
        """
        peer = self._peers.get(key)
        if peer is not None:
            peer.initiate(now, unix_now, is_forced=force)
            self._touch(peer)

    def repeat_handshake(self, key: NodePublic, now: float) -> None:
        """Repeats to a peer, byte for byte, an unanswered handshake message that is less than 5 s old.

        This is for a better path that has been found. The peer drops a second copy as a replay.
        """
        peer = self._peers.get(key)
        if peer is not None:
            peer.repeat_handshake(now)
            self._touch(peer)

    def forget_sessions(self, key: NodePublic, now: float) -> None:
        """Destroys the sessions of a peer that has restarted; staged packets stay.

        If a handshake message was sent to it within the last second, sessions younger than a second stay.
        """
        peer = self._peers.get(key)
        if peer is not None:
            peer.forget_sessions(now)
            self._touch(peer)

    # What happened

    def handle_packets(self, packets: Sequence[Buffer], now: float, unix_now: float) -> None:
        """Sends the inner packets of one TUN read, all to one destination, to their peer.

        They are dropped and counted while the device is down or if there is no peer.

        Buffers are borrowed for the call.
        """
        if not packets:
            return
        address = destination(packets[0])
        peer = self._allowed_ips.lookup(address) if address is not None else None
        if peer is None or not self._local.is_up:
            reason = "malformed_inner" if address is None else "no_peer" if peer is None else "down"
            self._counters[f"wireguard.drop.{reason}"] += len(packets)
            return
        peer.send(packets, now, unix_now)
        self._touch(peer)

    def handle_datagrams(
        self,
        source: Source,
        datagrams: Sequence[Buffer],
        now: float,
        unix_now: float,
        *,
        is_congested: bool = False,
    ) -> None:
        """Handles the datagrams of one UDP read or one relay's run, all from one source.

        Buffers are borrowed for the call.

        Args:
            source: the sender's address, as the layer below has it.
            datagrams: in order.
            now: seconds.
            unix_now: wall clock in seconds.
            is_congested: whether the network marked them CE (ECN).
        """
        self._is_congested = is_congested
        if not self._local.is_up or self._local.identity is None:
            self._counters["wireguard.drop.down"] += len(datagrams)
            return
        index = _common_index(datagrams)
        if index is not None:
            self._open(index, datagrams, source, now, unix_now)
        else:
            self._sort(source, datagrams, now, unix_now)
        self._work_off_handshakes(now, unix_now)

    def handle_timeout(self, now: float, unix_now: float) -> None:
        """Handles queued handshakes within the budget, and every timer that has expired by ``now``."""
        self._work_off_handshakes(now, unix_now)
        while (peer := self._schedule.first_due(now)) is not None:
            peer.handle_timeout(now, unix_now)
            self._touch(peer)

    # What to do next

    def poll_transmit(self) -> Transmit | None:
        """Returns the next batch to send; None if there is none, which restores the handshake budget.

        Packets to one peer since the last drain share batches as far as their sizes allow.
        """
        if not self._transmits:
            for peer in self._with_output.values():
                for datagrams, tos, is_handshake in peer.outbox:
                    for batch in cut_batches(datagrams):
                        self._transmits.append(Transmit(peer.key, batch, len(batch[0]), tos, is_handshake))
                peer.outbox = []
            self._with_output.clear()
        if self._transmits:
            return self._transmits.popleft()
        self._handshakes.refill()
        return None

    def poll_packets(self) -> Received | None:
        """Returns the next decrypted packets, consecutive ones of a peer together; None for none."""
        return self._received.popleft() if self._received else None

    def poll_event(self) -> Event | None:
        """Returns the next event; None if there is none."""
        return self._local.events.popleft() if self._local.events else None

    def poll_timeout(self) -> Deadline | None:
        """Returns when ``handle_timeout`` is due, and why; None for never.

        While handshakes are queued, that is the arrival time of the oldest.
        """
        waiting_since = self._handshakes.waiting_since()
        if waiting_since is not None:
            return Deadline(waiting_since, "handshakes are queued")
        return self._schedule.poll_timeout()

    # Looking

    @property
    def tai64n_mark(self) -> bytes | None:
        """Greatest handshake timestamp so far, or ``tai64n_floor`` before the first; None without either."""
        return self._local.clock.last

    @property
    def public_key(self) -> NodePublic | None:
        """Public key of the device; None without a private key."""
        return self._local.identity.public if self._local.identity is not None else None

    def allowed_ips(self, key: NodePublic) -> tuple[Network, ...] | None:
        """Returns a peer's prefixes, in order of insertion; None if there is no such peer."""
        peer = self._peers.get(key)
        return tuple(self._allowed_ips.networks(peer)) if peer is not None else None

    def secrets(self) -> DeviceSecrets:
        """Returns the private key and the preshared keys, for callers that may configure the device."""
        identity = self._local.identity
        return DeviceSecrets(
            private_key=identity.private if identity is not None else None,
            preshared_keys={peer.key: peer.preshared_key for peer in self._peers.values()},
        )

    def status(self, now: float) -> DeviceStatus:
        """Returns a snapshot of the device and its peers, without secrets."""
        identity = self._local.identity
        return DeviceStatus(
            public_key=identity.public if identity is not None else None,
            is_up=self._local.is_up,
            mtu=self._local.mtu,
            n_queued_handshakes=len(self._handshakes),
            is_under_load=self._handshakes.is_under_load(now),
            peers=tuple(self._peer_status(peer, now) for peer in self._peers.values()),
        )

    def _peer_status(self, peer: Peer, now: float) -> PeerStatus:
        return PeerStatus(
            key=peer.key,
            last_handshake_at=peer.last_handshake_at,
            has_session=peer.has_session(now),
            tx_bytes=peer.tx_bytes,
            rx_bytes=peer.rx_bytes,
            n_staged=peer.n_staged,
            allowed_ips=tuple(self._allowed_ips.networks(peer)),
            persistent_keepalive=peer.persistent_keepalive,
            has_preshared_key=peer.has_preshared_key,
        )

    # Data

    def _sort(self, source: Source, datagrams: Sequence[Buffer], now: float, unix_now: float) -> None:
        """Opens transport data of several sessions, run by run, and queues handshake messages."""
        run: list[Buffer] = []
        run_index = -1
        for datagram in datagrams:
            if len(datagram) >= TRANSPORT_MIN_SIZE:
                kind, index = _decode_prefix(datagram)
                if kind == TRANSPORT:
                    if index != run_index:
                        self._open(run_index, run, source, now, unix_now)
                        run, run_index = [], index
                    run.append(datagram)
                    continue
            self._handshakes.receive(bytes(datagram), source, now)
        self._open(run_index, run, source, now, unix_now)

    def _open(
        self, index: int, datagrams: Sequence[Buffer], source: Source, now: float, unix_now: float
    ) -> None:
        if not datagrams:
            return
        entry = self._local.indices.get(index)
        if entry is None or entry.keypair is None:
            self._counters["wireguard.drop.unknown_index"] += len(datagrams)
            return
        peer = self._peers[entry.key]
        plaintexts = peer.handle_transport(entry.keypair, datagrams, source, now, unix_now)
        self._touch(peer)
        lookup = self._allowed_ips.lookup
        verdict = admit(plaintexts, lambda address: lookup(address) is peer, self._own_address)
        if verdict.n_malformed:
            self._counters["wireguard.drop.malformed_inner"] += verdict.n_malformed
        if verdict.n_foreign:
            self._counters["wireguard.drop.foreign_source"] += verdict.n_foreign
        if verdict.n_misdirected:
            self._counters["wireguard.drop.other_destination"] += verdict.n_misdirected
        if verdict.packets:
            packets = verdict.packets
            self._deliver(peer.key, list(map(with_congestion, packets)) if self._is_congested else packets)

    def _deliver(self, key: NodePublic, packets: list[Buffer]) -> None:
        if self._received and self._received[-1].peer is key:
            self._received[-1].packets.extend(packets)
        else:
            self._received.append(Received(key, packets))

    def _touch(self, peer: Peer) -> None:
        """Updates the list of peers with output and the schedule, after a peer's state has changed."""
        if peer.outbox:
            self._with_output[peer.key] = peer
        self._schedule.update(peer)

    # Handshakes

    def _work_off_handshakes(self, now: float, unix_now: float) -> None:
        while (queued := self._handshakes.pop(now)) is not None:
            if isinstance(queued.message, CookieReply):
                self._handle_cookie_reply(queued.message, now)
            else:
                self._handle_handshake(queued, now, unix_now)

    def _handle_cookie_reply(self, reply: CookieReply, now: float) -> None:
        entry = self._local.indices.get(reply.receiver)
        if entry is None or not self._peers[entry.key].handle_cookie_reply(reply, now):
            self._counters["wireguard.drop.cookie_reply"] += 1

    def _handle_handshake(self, queued: Queued, now: float, unix_now: float) -> None:
        identity = self._local.identity
        if identity is None:
            return
        try:
            if isinstance(queued.message, Initiation):
                self._handle_initiation(queued.message, identity, queued.source, now)
            elif isinstance(queued.message, Response):
                self._handle_response(queued.message, queued.source, now, unix_now)
        except HandshakeRejected:
            self._counters["wireguard.drop.handshake_refused"] += 1

    def _handle_initiation(self, message: Initiation, identity: Identity, source: Source, now: float) -> None:
        opened = open_static(message, identity)
        peer = self._peers.get(opened.claimed)
        if peer is None:
            self._counters["wireguard.drop.unknown_peer"] += 1
            return
        peer.handle_initiation(opened, source, now)
        self._touch(peer)

    def _handle_response(self, message: Response, source: Source, now: float, unix_now: float) -> None:
        entry = self._local.indices.get(message.receiver)
        if entry is None or entry.keypair is not None:
            self._counters["wireguard.drop.unknown_index"] += 1
            return
        peer = self._peers[entry.key]
        peer.handle_response(message, source, now, unix_now)
        self._touch(peer)


def _common_index(datagrams: Sequence[Buffer]) -> int | None:
    """Returns the receiver index of datagrams that are all transport data of one session; otherwise None."""
    if min(map(len, datagrams), default=0) < TRANSPORT_MIN_SIZE:
        return None
    prefixes = set(map(_decode_prefix, datagrams))
    kind, index = prefixes.pop()
    return index if kind == TRANSPORT and not prefixes else None
