"""Authentication of connections as a peer daemon's, by the secret that they show.

A secret that the peer's daemon has not announced yet is waited for.
"""

from collections.abc import Callable
from typing import Final

import trio

from coderd.engine.tunnel_secrets import ASK_INTERVAL, TunnelSecrets
from coderd.model import limits
from coderd.model.keys import NodePublic
from coderd.model.netmap import Peer

TUNNEL_SECRET_TIMEOUT: Final = limits.TUNNEL_SECRET_TIMEOUT


class Proofs:
    """Checks that connections from peers come by way of their daemons, waiting for secrets under way.

    Args:
        secrets: what peers have told.
        ask: asks a peer's daemon for its secret.
    """

    def __init__(self, secrets: TunnelSecrets, ask: Callable[[NodePublic], None]) -> None:
        self._secrets = secrets
        self._ask = ask
        self._told = trio.Event()

    def handle_told(self) -> None:
        """Wakes ``proves``: a peer's daemon has sent its secret."""
        self._told.set()
        self._told = trio.Event()

    async def proves(self, peer: Peer, shown: str) -> bool:
        """Returns whether a connection that shows this secret comes by way of a peer's daemon, or needs none.

        Waits up to ``TUNNEL_SECRET_TIMEOUT`` seconds if the secret is not the one received: the daemon may
        have a new secret, and the packet that carried it may be lost.
        """
        await trio.lowlevel.checkpoint()
        if not self._secrets.demands(peer):
            return True
        if (secret := _unhex(shown)) is None:
            return False
        with trio.move_on_after(TUNNEL_SECRET_TIMEOUT):
            while not self._secrets.is_shown(peer.node_key, secret):
                told = self._told
                self._ask(peer.node_key)
                with trio.move_on_after(ASK_INTERVAL):
                    await told.wait()
        return self._secrets.is_shown(peer.node_key, secret)


def _unhex(shown: str) -> bytes | None:
    try:
        return bytes.fromhex(shown) or None
    except ValueError:
        return None
