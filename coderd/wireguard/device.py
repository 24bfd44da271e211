"""A WireGuard device: one static key, its peers, and everything that belongs to all of them together.

```
 handle_packets    inner packets -> allowed IPs -> peer.send -------------------> outbox -> poll_transmit (batches)
 handle_datagrams  transport     -> index -> peer.handle_transport -> source check -------> poll_packets
                   handshakes    -> MAC1 -> queue -> [under load: MAC2, limiter] -> noise -> outbox, poll_event
```
After any command or ``handle_*``, drain: ``poll_event``, ``poll_packets``, ``poll_transmit`` until each says None, then
``poll_timeout``. A handshake costs as much as hundreds of packets, so at most four are worked off between two drains; the
rest waits its turn, and as long as it does the device's deadline is already past.
"""

import struct
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes
from coderd.model.deadline import Deadline
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.schedule import Schedule
from coderd.wireguard.allowed_ips import AllowedIps
from coderd.wireguard.batch import cut_batches
from coderd.wireguard.cookie import CookieChecker
from coderd.wireguard.ecn import HANDSHAKE_TOS, with_congestion
from coderd.wireguard.handshake_queue import COST_OF_HANDSHAKE, COST_OF_VERDICT, HandshakeQueue, Queued
from coderd.wireguard.index_table import IndexTable
from coderd.wireguard.inner import admit, destination
from coderd.wireguard.limiter import HandshakeLimiter, limiter_key
from coderd.wireguard.local import IndexEntry, Local
from coderd.wireguard.message import (
    COOKIE_REPLY_SIZE,
    TRANSPORT,
    TRANSPORT_MIN_SIZE,
    CookieReply,
    Initiation,
    Response,
    parse_handshake,
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
    """All of WireGuard but the waiting: see the module's picture.

    Args:
        rng: for keys, indices, nonces, jitter.
        now: seconds on the clock of every later ``now``.
        mtu: of the TUN device; padding never goes past it. 0 for no limit.
        counters: what was dropped, and why, is added here.
        tai64n_floor: the last timestamp of an earlier life (``tai64n_mark``), so that ours go on rising.
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
        self._rng = rng
        indices: IndexTable[IndexEntry] = IndexTable(rng)
        self._local = Local(
            rng=rng, clock=TimestampClock(tai64n_floor), indices=indices, counters=self._counters
        )
        self._local.mtu = mtu
        self._peers: dict[NodePublic, Peer] = {}
        self._allowed_ips: AllowedIps[Peer] = AllowedIps()
        self._schedule: Schedule[Peer] = Schedule()
        self._checker: CookieChecker | None = None
        self._limiter = HandshakeLimiter()
        self._handshakes = HandshakeQueue()
        self._with_output: dict[NodePublic, Peer] = {}
        self._transmits: deque[Transmit] = deque()
        self._received: deque[Received] = deque()
        self._own_address: bytes | None = None
        self._is_congested = False
        """What the network said of the datagrams at hand."""

    # Commands

    def set_private_key(self, key: NodePrivate | None, now: float) -> None:
        """Changes who we are; sessions of the old key no longer send. None: no handshakes at all."""
        old = self._local.identity
        if key == (old.private if old is not None else None):
            return
        self._local.identity = Identity(key) if key is not None else None
        self._checker = None
        self._forget_queued()
        if self._local.identity is not None:
            self._checker = CookieChecker(self._local.identity.public, self._rng)
            self.remove_peer(self._local.identity.public, now)
        for peer in self._peers.values():
            peer.handle_identity(now)
            self._touch(peer)

    def set_mtu(self, mtu: int) -> None:
        """Follows the TUN device's MTU."""
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
        """Adds a peer or changes it. None leaves a setting as it is. Our own key is silently no peer.

        Args:
            key: its public key.
            now: seconds.
            preshared_key: 32 bytes; zeros for none.
            allowed_ips: all prefixes that it may use; each is taken from whoever had it.
            persistent_keepalive: seconds, 0 for off.
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
        """Forgets a peer and all that it had; a key that is no peer is no error."""
        peer = self._peers.pop(key, None)
        if peer is None:
            return
        self._allowed_ips.replace(peer, ())
        self._with_output.pop(key, None)
        peer.stop()
        self._schedule.discard(peer)

    def set_own_address(self, address: bytes | None) -> None:
        """Admits inner packets for this one packed address alone. None, as at first: for any, as ``wg`` has it.

        With an address, peers reach none of the host's other addresses, and the host forwards nothing of theirs.
        """
        self._own_address = address

    def up(self, now: float) -> None:
        """Starts: packets and datagrams are taken from here on."""
        if self._local.is_up:
            return
        self._local.is_up = True
        for peer in self._peers.values():
            peer.start(now)
            self._touch(peer)

    def down(self, now: float) -> None:
        """Stops: every session and staged packet is gone, configuration stays."""
        self._local.is_up = False
        self._forget_queued()
        self._with_output.clear()
        self._transmits.clear()
        for peer in self._peers.values():
            peer.stop()
            self._touch(peer)

    def initiate(self, key: NodePublic, now: float, unix_now: float, *, force: bool = False) -> None:
        """Sends a peer a handshake initiation now, unless one message of a handshake went to it within 5 s.

        Args:
            key: a peer's; no peer is no error.
            now: seconds.
            unix_now: wall clock, for the timestamp.
            force: leaves the 5 s aside, as when the peer is known to have lost its session.
        """
        peer = self._peers.get(key)
        if peer is not None:
            peer.initiate(now, unix_now, is_forced=force)
            self._touch(peer)

    def repeat_handshake(self, key: NodePublic, now: float) -> None:
        """Sends a peer the very handshake message again that it has not answered, if that is less than 5 s old.

        For when there is a better way to the peer than there was. A copy that arrives twice is refused there as a replay.
        """
        peer = self._peers.get(key)
        if peer is not None:
            peer.repeat_handshake(now)
            self._touch(peer)

    def forget_sessions(self, key: NodePublic, now: float) -> None:
        """A peer has restarted: its sessions are worth nothing any more. Staged packets stay."""
        peer = self._peers.get(key)
        if peer is not None:
            peer.forget_sessions(now)
            self._touch(peer)

    # What happened

    def handle_packets(self, packets: Sequence[Buffer], now: float, unix_now: float) -> None:
        """Inner packets of one TUN read, all to one destination. Buffers are borrowed for the call."""
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
        """Datagrams of one UDP read or one relay's run, all from one source. Buffers are borrowed for the call.

        Args:
            source: where they came from.
            datagrams: in order.
            now: seconds.
            unix_now: wall clock.
            is_congested: whether the network marked them as having met congestion.
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
        """Does what is due."""
        self._work_off_handshakes(now, unix_now)
        while (peer := self._schedule.first_due(now)) is not None:
            peer.handle_timeout(now, unix_now)
            self._touch(peer)

    # What to do next

    def poll_transmit(self) -> Transmit | None:
        """The next batch. Packets to one peer since the last drain share batches as far as their sizes allow."""
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
        """The next packets for the TUN device; consecutive ones of one peer come together."""
        return self._received.popleft() if self._received else None

    def poll_event(self) -> Event | None:
        """The next event."""
        return self._local.events.popleft() if self._local.events else None

    def poll_timeout(self) -> Deadline | None:
        """When to call ``handle_timeout``."""
        waiting_since = self._handshakes.waiting_since()
        if waiting_since is not None:
            return Deadline(waiting_since, "handshakes are queued")
        return self._schedule.poll_timeout()

    # Looking

    @property
    def tai64n_mark(self) -> bytes | None:
        """The greatest handshake timestamp so far, to be kept and given to the next life as ``tai64n_floor``."""
        return self._local.clock.last

    @property
    def own_address(self) -> bytes | None:
        """The one address that inner packets may be for; None: any."""
        return self._own_address

    @property
    def public_key(self) -> NodePublic | None:
        """Who we are; None without a private key."""
        return self._local.identity.public if self._local.identity is not None else None

    def allowed_ips(self, key: NodePublic) -> tuple[Network, ...] | None:
        """A peer's prefixes, in order of insertion; None where there is no such peer."""
        peer = self._peers.get(key)
        return tuple(self._allowed_ips.networks(peer)) if peer is not None else None

    def secrets(self) -> DeviceSecrets:
        """What was configured and must not be shown, but to whoever may configure us."""
        identity = self._local.identity
        return DeviceSecrets(
            private_key=identity.private if identity is not None else None,
            preshared_keys={peer.key: peer.preshared_key for peer in self._peers.values()},
        )

    def status(self, now: float) -> DeviceStatus:
        """Everything worth showing."""
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
        """Datagrams of several kinds or sessions, run by run."""
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
            self._queue_handshake(bytes(datagram), source, now)
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
        """Takes note of what a peer wants after something happened to it."""
        if peer.outbox:
            self._with_output[peer.key] = peer
        self._schedule.update(peer)

    # Handshakes

    def _queue_handshake(self, data: bytes, source: Source, now: float) -> None:
        try:
            message = parse_handshake(data)
        except MalformedPacket:
            self._counters["wireguard.drop.malformed"] += 1
            return
        is_cookie_reply = isinstance(message, CookieReply)
        if not is_cookie_reply and (self._checker is None or not self._checker.has_valid_mac1(data)):
            self._counters["wireguard.drop.mac1"] += 1
        elif not isinstance(message, Initiation) and self._local.indices.get(message.receiver) is None:
            # Nobody we wrote to sent this: it must not take an initiation's place in the queue.
            self._counters["wireguard.drop.unknown_index"] += 1
        elif not self._handshakes.push(Queued(data, message, source, now)):
            self._counters["wireguard.drop.handshake_queue_full"] += 1

    def _forget_queued(self) -> None:
        if self._handshakes:
            self._counters["wireguard.drop.down"] += len(self._handshakes)
            self._handshakes.clear()

    def _work_off_handshakes(self, now: float, unix_now: float) -> None:
        while (queued := self._handshakes.pop(now)) is not None:
            if isinstance(queued.message, CookieReply):
                self._handshakes.spend(COST_OF_VERDICT)
                self._handle_cookie_reply(queued.message, now)
            elif self._handshakes.is_under_load(now) and not self._may_pass(queued, now):
                self._handshakes.spend(COST_OF_VERDICT)
            else:
                self._handshakes.spend(COST_OF_HANDSHAKE)
                self._handle_handshake(queued, now, unix_now)

    def _may_pass(self, queued: Queued, now: float) -> bool:
        """Under load: only who can receive at its address, and not too often."""
        if self._checker is None:
            return False
        address = queued.source.cookie_bytes
        if not self._checker.has_valid_mac2(queued.data, address, now):
            reply = self._checker.create_reply(queued.data, address, now)
            self._transmits.append(Transmit(queued.source, [reply], COOKIE_REPLY_SIZE, HANDSHAKE_TOS))
            self._counters["wireguard.cookie_replies_sent"] += 1
            return False
        if self._limiter.allow(limiter_key(address), int(now * 1_000_000_000)):
            return True
        self._counters["wireguard.drop.handshake_rate"] += 1
        return False

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
    """The session of datagrams that are all transport data of one, as nearly every read is."""
    if min(map(len, datagrams), default=0) < TRANSPORT_MIN_SIZE:
        return None
    prefixes = set(map(_decode_prefix, datagrams))
    kind, index = prefixes.pop()
    return index if kind == TRANSPORT and not prefixes else None
