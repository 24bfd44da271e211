"""The handshakes of one peer: the pending initiation of this end, and acceptance of the peer's.

A pending initiation stays when one of the peer arrives: each end answers the other's, and both handshakes
complete. wireguard-go keeps one handshake per peer instead, so two that cross cancel each other until one is
retransmitted, 5 s later. The responder's part keeps no state between messages: an initiation yields response
and session at once.
"""

from math import inf

from coderd.model.keys import NodePublic
from coderd.wireguard.cookie import MacStamp
from coderd.wireguard.keypair import Keypair
from coderd.wireguard.local import IndexEntry, Local
from coderd.wireguard.message import CookieReply, Response
from coderd.wireguard.noise import (
    NO_PRESHARED_KEY,
    HandshakeRejected,
    OpenedInitiation,
    Pending,
    Remote,
    TransportKeys,
    create_initiation,
)
from coderd.wireguard.timers import BEFORE_START, INITIATION_INTERVAL, REKEY_TIMEOUT


class Handshake:
    """Creator and reader of one peer's handshake messages, without timers, which ``Peer`` has.

    Args:
        key: the peer's public key.
        local: the state that the device's peers share.
        entry: the index table's entry for a pending handshake.
        now: seconds.
    """

    def __init__(self, key: NodePublic, local: Local, entry: IndexEntry, now: float) -> None:
        self._key = key
        self._local = local
        self._entry = entry
        self._preshared_key = NO_PRESHARED_KEY
        self._remote: Remote | None = None
        self._stamp = MacStamp(key)
        self._pending: Pending | None = None
        self._last_sent_at = -inf
        self._last_initiation_at = -inf
        self._last_timestamp = b""
        self.handle_identity(now)

    @property
    def has_preshared_key(self) -> bool:
        """Whether a preshared key other than 32 zero bytes is set."""
        return self._preshared_key != NO_PRESHARED_KEY

    @property
    def preshared_key(self) -> bytes:
        """Preshared key, 32 bytes, all zeros for none; a secret."""
        return self._preshared_key

    @property
    def can_begin(self) -> bool:
        """Whether a handshake can begin: a private key is set, and the peer's key is not of low order."""
        return self._remote is not None

    @property
    def may_begin_at(self) -> float:
        """Time from which an initiation is allowed: 5 s after the last initiation or response sent."""
        return self._last_sent_at + REKEY_TIMEOUT

    @property
    def yields_when_crossed(self) -> bool:
        """Whether this end gives up its own of two crossed sessions: it has the greater public key."""
        identity = self._local.identity
        return identity is not None and identity.public > self._key

    def set_preshared_key(self, key: bytes) -> None:
        """Sets the preshared key, 32 bytes, of all handshakes not yet complete.

        Raises ValueError for another size.

        WireGuard paper §5.2.
        """
        if len(key) != len(NO_PRESHARED_KEY):
            raise ValueError(f"a preshared key has {len(NO_PRESHARED_KEY)} bytes, not {len(key)}")
        self._preshared_key = bytes(key)
        if self._remote is not None:
            self._remote = self._remote._replace(preshared_key=self._preshared_key)

    def handle_identity(self, now: float) -> None:
        """Applies a change of the device's private key, and cancels the pending handshake."""
        self.restart(now)
        self._remote = None
        if self._local.identity is not None:
            try:
                static_static = self._local.identity.exchange(self._key)
            except HandshakeRejected:
                return
            self._remote = Remote(self._key, static_static, self._preshared_key)

    def restart(self, now: float) -> None:
        """Forgets the pending initiation, and allows the next one at once."""
        self.forget_pending()
        self._last_sent_at = now - BEFORE_START

    def forget_pending(self) -> None:
        """Forgets the pending initiation and its index, so that no response completes it."""
        if self._pending is not None:
            self._local.indices.discard(self._pending.sender)
            self._pending = None

    def create_initiation(self, now: float, unix_now: float) -> bytes:
        """Creates an initiation with its MACs; an earlier one can no longer be answered.

        Raises:
            RuntimeError: ``can_begin`` is False.
        """
        if self._local.identity is None or self._remote is None:
            raise RuntimeError("a handshake cannot begin without keys")
        self._last_sent_at = now
        self.forget_pending()
        message, self._pending = create_initiation(
            self._local.identity,
            self._remote,
            ephemeral=self._local.rng(32),
            timestamp=self._local.clock.stamp(unix_now),
            sender=self._local.indices.insert(self._entry),
        )
        return self._stamp.stamp(message.encode(), now)

    def accept_initiation(self, opened: OpenedInitiation, now: float) -> str | None:
        """Accepts an initiation that is authentic, newer than the last accepted one and over 20 ms after it.

        WireGuard paper §5.1 for the timestamp; wireguard-go for the 20 ms.

        Returns: the reason to drop it, None if it is accepted; state changes only if it is accepted.

        Raises:
            HandshakeRejected: its timestamp does not authenticate, or the peer's key is of low order.
        """
        if self._remote is None:
            raise HandshakeRejected("this peer's key is of low order")
        timestamp = opened.open_timestamp(self._remote.static_static)
        if timestamp <= self._last_timestamp:
            return "old_timestamp"
        if now - self._last_initiation_at <= INITIATION_INTERVAL:
            return "initiation_flood"
        self._last_timestamp = timestamp
        self._last_initiation_at = now
        return None

    def create_response(self, opened: OpenedInitiation, now: float) -> tuple[bytes, Keypair]:
        """Creates the response, with its MACs, to an accepted initiation, and the session.

        Raises:
            HandshakeRejected: a point is of low order.
        """
        if self._remote is None:
            raise HandshakeRejected("this peer's key is of low order")
        self._last_sent_at = now
        index = self._local.indices.insert(self._entry)
        try:
            message, keys = opened.create_response(self._remote, ephemeral=self._local.rng(32), sender=index)
        except HandshakeRejected:
            self._local.indices.discard(index)
            raise
        keypair = self._derive(keys, index, message.receiver, is_initiator=False, now=now)
        return self._stamp.stamp(message.encode(), now), keypair

    def finish(self, response: Response, now: float) -> Keypair:
        """Completes the pending handshake by its response and returns the session.

        Raises:
            HandshakeRejected: the response is to no pending initiation or does not verify; what is pending
                stays.
        """
        pending, identity = self._pending, self._local.identity
        if pending is None or pending.sender != response.receiver or identity is None:
            raise HandshakeRejected("no handshake waits for this response")
        keys = pending.finish(response, identity, self._preshared_key)
        self._pending = None
        return self._derive(keys, pending.sender, response.sender, is_initiator=True, now=now)

    def handle_cookie_reply(self, reply: CookieReply, now: float) -> bool:
        """Stores the cookie of a reply to the last message sent; returns False if it is to another."""
        return self._stamp.handle_reply(reply, now)

    def _derive(
        self, keys: TransportKeys, local_index: int, remote_index: int, *, is_initiator: bool, now: float
    ) -> Keypair:
        keypair = Keypair(
            keys, local_index=local_index, remote_index=remote_index, is_initiator=is_initiator, now=now
        )
        self._local.indices.replace(local_index, self._entry._replace(keypair=keypair))
        return keypair
