"""Sessions: a keypair and its counters, and the three slots through which sessions of a peer pass.

```
               we initiated (response accepted)    we responded (response sent)    first packet on next
 previous  <-  current; if crossed, next           -                               current
 current   <-  new                                 unchanged, still sent on        next
 next      <-  -                                   new                             -
```
What leaves the slots is destroyed. The responder may not send on a session before the initiator has, so it waits in
``next``; packets in flight on the old session still open from ``previous``. Where handshakes have crossed, the peer may
use the session in ``next`` at once, so that one is kept rather than the old one; for a moment each end sends on its
own, until the one with the greater public key sees the other's in use and yields.
"""

from coderd.wireguard.noise import TransportKeys
from coderd.wireguard.replay import REJECT_AFTER_MESSAGES, ReplayWindow
from coderd.wireguard.timers import REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME, REKEY_TIMEOUT
from coderd.wireguard.transport import make_cipher


class Keypair:
    """One session."""

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
        """Whether the peer's handshake crossed ours and this is the session that came of the peer's."""

    def can_send(self, n: int, now: float) -> bool:
        """Whether ``n`` packets may still be sealed."""
        return self.send_counter + n <= REJECT_AFTER_MESSAGES and now - self.created_at < REJECT_AFTER_TIME

    def can_receive(self, now: float) -> bool:
        """Whether packets may still be opened."""
        return now - self.created_at <= REJECT_AFTER_TIME

    def is_due_for_rekey(self, now: float) -> bool:
        """Whether, having sent, we should replace this session: old and ours to renew, or worn out."""
        if self.send_counter > REKEY_AFTER_MESSAGES:
            return True
        return self.is_initiator and now - self.created_at > REKEY_AFTER_TIME

    def retire_from_sending(self) -> None:
        """Lets it receive but never send again: our identity has changed."""
        self.send_counter = REJECT_AFTER_MESSAGES


class KeypairSlots:
    """A peer's sessions. Every change returns the keypairs that it destroyed, whose indices must go."""

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.previous: Keypair | None = None
        self.current: Keypair | None = None
        self.next: Keypair | None = None

    def add_initiated(self, keypair: Keypair) -> list[Keypair]:
        """The response to our initiation was accepted: send on the new session at once."""
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
        """Our response was sent: wait for the initiator to use the new session."""
        destroyed = [self.next, self.previous]
        self.next, self.previous = keypair, None
        return [each for each in destroyed if each is not None]

    def yield_to_previous(self) -> None:
        """Takes the peer's session of two that crossed: now both ends send on the same one, and one end renews it."""
        if self.previous is not None and self.previous.is_crossed:
            self.previous.is_crossed = False
            self.previous, self.current = self.current, self.previous

    def confirm_next(self) -> list[Keypair]:
        """A packet on ``next`` was authentic and new: the initiator has the session too."""
        destroyed = [self.previous]
        self.previous, self.current, self.next = self.current, self.next, None
        return [each for each in destroyed if each is not None]

    def clear_older(self, than: float) -> list[Keypair]:
        """Destroys the sessions in use that were created before an instant."""
        destroyed = [each for each in (self.previous, self.current) if each and each.created_at < than]
        self.previous = None if self.previous in destroyed else self.previous
        self.current = None if self.current in destroyed else self.current
        return destroyed

    def clear(self) -> list[Keypair]:
        """Destroys all."""
        destroyed = [self.previous, self.current, self.next]
        self.previous = self.current = self.next = None
        return [each for each in destroyed if each is not None]

    def retire_from_sending(self) -> None:
        """Keeps all from sending."""
        for keypair in (self.previous, self.current, self.next):
            if keypair is not None:
                keypair.retire_from_sending()
