"""The handshakes of one peer: what of ours is pending, what of its we accept, and how often.

An initiation of ours stays pending when the peer's own arrives: each end answers the other's, and both complete. The
reference keeps one handshake per peer instead, so that two that cross kill each other and both wait five seconds.
Answering needs no state of its own: message, response and session are one step.
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
    """Makes and reads a peer's handshake messages; which timers move is the peer's business.

    Args:
        key: the peer's public key.
        local: the device's side.
        entry: what an index of a pending handshake stands for.
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
        """Whether a preshared key other than zeros is set."""
        return self._preshared_key != NO_PRESHARED_KEY

    @property
    def preshared_key(self) -> bytes:
        """A secret: 32 bytes, zeros for none."""
        return self._preshared_key

    @property
    def can_begin(self) -> bool:
        """Whether there are keys to begin with; a peer's key of low order never gives any."""
        return self._remote is not None

    @property
    def may_begin_at(self) -> float:
        """When the last handshake message, of either kind, is old enough for an initiation."""
        return self._last_sent_at + REKEY_TIMEOUT

    @property
    def yields_when_crossed(self) -> bool:
        """Whether, of two sessions that crossed, ours is the one to go."""
        identity = self._local.identity
        return identity is not None and identity.public > self._key

    def set_preshared_key(self, key: bytes) -> None:
        """Takes effect with the next handshake."""
        if len(key) != len(NO_PRESHARED_KEY):
            raise ValueError(f"a preshared key has {len(NO_PRESHARED_KEY)} bytes, not {len(key)}")
        self._preshared_key = bytes(key)
        if self._remote is not None:
            self._remote = self._remote._replace(preshared_key=self._preshared_key)

    def handle_identity(self, now: float) -> None:
        """Our own key has changed: nothing of the old one may finish."""
        self.restart(now)
        self._remote = None
        if self._local.identity is not None:
            try:
                static_static = self._local.identity.exchange(self._key)
            except HandshakeRejected:
                return
            self._remote = Remote(self._key, static_static, self._preshared_key)

    def restart(self, now: float) -> None:
        """Forgets what is pending, and lets the next initiation go at once."""
        self.forget_pending()
        self._last_sent_at = now - BEFORE_START

    def forget_pending(self) -> None:
        """Lets no response complete our last initiation."""
        if self._pending is not None:
            self._local.indices.discard(self._pending.sender)
            self._pending = None

    def create_initiation(self, now: float, unix_now: float) -> bytes:
        """A new initiation, stamped; the one before can no longer be answered. Needs ``can_begin``."""
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
        """Whether an initiation is the peer's, new, and no flood.

        Returns: why it is dropped, None if it was accepted; only then is anything remembered.

        Raises:
            HandshakeRejected: it does not verify.
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
        """The stamped answer to an accepted initiation, and the session it makes; raises HandshakeRejected."""
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
        """The session that our pending initiation has led to; raises HandshakeRejected and keeps waiting if it has not."""
        pending, identity = self._pending, self._local.identity
        if pending is None or pending.sender != response.receiver or identity is None:
            raise HandshakeRejected("no handshake waits for this response")
        keys = pending.finish(response, identity, self._preshared_key)
        self._pending = None
        return self._derive(keys, pending.sender, response.sender, is_initiator=True, now=now)

    def handle_cookie_reply(self, reply: CookieReply, now: float) -> bool:
        """Keeps a cookie for the next attempt; False if it does not answer our last message."""
        return self._stamp.handle_reply(reply, now)

    def _derive(
        self, keys: TransportKeys, local_index: int, remote_index: int, *, is_initiator: bool, now: float
    ) -> Keypair:
        keypair = Keypair(
            keys, local_index=local_index, remote_index=remote_index, is_initiator=is_initiator, now=now
        )
        self._local.indices.replace(local_index, self._entry._replace(keypair=keypair))
        return keypair
