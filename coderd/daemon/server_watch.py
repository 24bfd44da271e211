"""State of the link to the server, and the authorisations that the link keeps up."""

import time
from collections.abc import Set
from uuid import UUID

import structlog
import trio

from coderd.coordination.server_state import ServerState
from coderd.daemon.authority import SAVE_INTERVAL, Authority, without_users
from coderd.daemon.state_saver import StateSaver
from coderd.model.netmap import NetMap

log = structlog.get_logger(__name__)


class ServerWatch:
    """State of the link to the server: since when, and whether its authorisations have expired.

    Args:
        authorised_for: seconds that a workspace's users stay without the server; 0: for ever.
        saver: has the time at which an earlier process heard the server, and saves newer ones.
    """

    def __init__(self, authorised_for: float, saver: StateSaver) -> None:
        self.state = ServerState(connected=False, reason="still connecting")
        self.state_at = trio.current_time()
        """Seconds on trio's clock at which the link came or went last."""
        self._saver = saver
        self._authority = Authority(
            authorised_for,
            heard_at=saver.current.authorised_at,
            now=trio.current_time(),
            unix_now=time.time(),
        )

    def set_state(self, state: ServerState) -> bool:
        """Takes the new state of the link, and returns whether the link came or went."""
        if state.connected or self.state.connected:
            self._hear()
        is_turn = state.connected != self.state.connected
        if is_turn:
            self.state_at = trio.current_time()
            log.info("server connected" if state.connected else "server disconnected", reason=state.reason)
        self.state = state
        if state.resume_token:
            self._saver.note(resume_token=state.resume_token)
        return is_turn

    def is_connected(self) -> bool:
        """Returns whether the server is connected."""
        return self.state.connected

    def is_cut_off(self) -> bool:
        """Returns whether the server is disconnected and its authorisations have expired."""
        return not self.state.connected and self._authority.has_expired(trio.current_time())

    def authorised(self, netmap: NetMap) -> NetMap:
        """Returns a NetMap without the users whose authorisations have expired."""
        return without_users(netmap) if self._authority.has_expired(trio.current_time()) else netmap

    def unauthorised(self, netmap: NetMap) -> Set[UUID]:
        """Returns the ids of a workspace's users once the server's authorisations have expired.

        The server lists the dropped users again when it is back. While it is connected, authorisations are
        renewed.
        """
        if self.state.connected:
            self._hear()
            return frozenset()
        gone = netmap.peers.keys() - self.authorised(netmap).peers.keys()
        if gone:
            log.warning("users dropped, not authorised again", n_users=len(gone))
        return gone

    def _hear(self) -> None:
        """Renews the server's authorisations: the server is connected, or was until now."""
        now, unix_now = trio.current_time(), time.time()
        self._authority.hear(now)
        if abs(unix_now - self._saver.current.authorised_at) >= SAVE_INTERVAL:
            self._saver.note(authorised_at=self._authority.heard_at(now, unix_now))
