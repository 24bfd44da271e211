"""Sessions of a peer: a keypair with its counters, and the three slots that sessions pass through.

```
               initiator (response accepted)       responder (response sent)       first packet on next
 previous  <-  current; if crossed, next           -                               current
 current   <-  new                                 unchanged, still sent on        next
 next      <-  -                                   new                             -
```
A session that leaves the slots is destroyed. The responder may not send on a session before the initiator
has, so the session waits in ``next``; packets in flight on the old session still open by ``previous``
(WireGuard paper §6.3). Where two handshakes have crossed, the peer may use the session in ``next`` at once,
so it is kept in place of the old one. Each end then sends on its own session, until the end with the greater
public key receives a packet on the other's and changes to it.
"""

from coderd.wireguard.noise import TransportKeys
from coderd.wireguard.replay import REJECT_AFTER_MESSAGES, ReplayWindow
from coderd.wireguard.timers import REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME, REKEY_TIMEOUT
from coderd.wireguard.transport import make_cipher


class Keypair:
    """Session: the keys, counters and indices that one handshake has led to."""

    __slots__ = (
        "created_at",
        "is_crossed",
        "is_initiator",
        "local_index",
        "receive_cipher",
        "remote_index",
        "replay",
        "send_cipher",
        "send_counter",
    )

    def __init__(
        self, keys: TransportKeys, *, local_index: int, remote_index: int, is_initiator: bool, now: float
    ) -> None:
        self.send_cipher = make_cipher(keys.send)
        self.receive_cipher = make_cipher(keys.receive)
        self.replay = ReplayWindow()
        self.send_counter = 0
        self.local_index = local_index
        self.remote_index = remote_index
        self.is_initiator = is_initiator
        self.created_at = now
        self.is_crossed = False
        """Whether two handshakes crossed and this session came of the peer's."""

    def can_send(self, n: int, now: float) -> bool:
        """Returns whether ``n`` more packets may be sealed: below 180 s of age and the counter's limit."""
        return self.send_counter + n <= REJECT_AFTER_MESSAGES and now - self.created_at < REJECT_AFTER_TIME

    def can_receive(self, now: float) -> bool:
        """Returns whether packets may still be opened: the session's age is at most 180 s."""
        return now - self.created_at <= REJECT_AFTER_TIME

    def is_due_for_rekey(self, now: float) -> bool:
        """Returns whether to initiate a new session after sending on this one. WireGuard paper §6.2.

        True after more than 2^60 messages, or past 120 s of age if this end initiated the session.
        """
        if self.send_counter > REKEY_AFTER_MESSAGES:
            return True
        return self.is_initiator and now - self.created_at > REKEY_AFTER_TIME

    def retire_from_sending(self) -> None:
        """Ends sending on this session by setting its counter to the limit; it still receives."""
        self.send_counter = REJECT_AFTER_MESSAGES


class KeypairSlots:
    """Slots of a peer's sessions.

    A method that destroys keypairs returns them, and the caller frees their indices.
    """

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.previous: Keypair | None = None
        self.current: Keypair | None = None
        self.next: Keypair | None = None

    def add_initiated(self, keypair: Keypair) -> list[Keypair]:
        """Makes a session that this end initiated ``current``, as its response was accepted.

        The old ``current`` becomes ``previous``; if a session in ``next`` is less than 5 s older than the new
        one, the handshakes crossed and it becomes ``previous`` instead.
        """
        destroyed = [self.previous]
        if self.next is not None and keypair.created_at - self.next.created_at < REKEY_TIMEOUT:
            destroyed.append(self.current)
            self.previous = self.next
            self.previous.is_crossed = True
        else:  # a ``next`` left over from an older handshake will never be used
            destroyed.append(self.next)
            self.previous = self.current
        self.current, self.next = keypair, None
        return [each for each in destroyed if each is not None]

    def add_responded(self, keypair: Keypair) -> list[Keypair]:
        """Puts a session that the peer initiated into ``next``; destroys old ``next`` and ``previous``."""
        destroyed = [self.next, self.previous]
        self.next, self.previous = keypair, None
        return [each for each in destroyed if each is not None]

    def yield_to_previous(self) -> None:
        """Exchanges ``current`` and ``previous`` after crossed handshakes.

        Both ends then send on the peer's session.
        """
        if self.previous is not None and self.previous.is_crossed:
            self.previous.is_crossed = False
            self.previous, self.current = self.current, self.previous

    def confirm_next(self) -> list[Keypair]:
        """Makes ``next`` current, after its first authenticated packet; ``current`` becomes ``previous``."""
        destroyed = [self.previous]
        self.previous, self.current, self.next = self.current, self.next, None
        return [each for each in destroyed if each is not None]

    def clear_older(self, than: float) -> list[Keypair]:
        """Destroys ``previous`` and ``current`` where they were created before ``than``; leaves ``next``."""
        destroyed = [each for each in (self.previous, self.current) if each and each.created_at < than]
        self.previous = None if self.previous in destroyed else self.previous
        self.current = None if self.current in destroyed else self.current
        return destroyed

    def clear(self) -> list[Keypair]:
        """Destroys the sessions of all three slots."""
        destroyed = [self.previous, self.current, self.next]
        self.previous = self.current = self.next = None
        return [each for each in destroyed if each is not None]

    def retire_from_sending(self) -> None:
        """Ends sending on all sessions; they still receive."""
        for keypair in (self.previous, self.current, self.next):
            if keypair is not None:
                keypair.retire_from_sending()
