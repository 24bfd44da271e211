"""Expires a workspace's authorisations when its server has not been reached for ``authorised_for`` seconds.

Pure.

While the server is connected its word is in force. From then on time counts, also while the daemon is down: the state file
says, in wall-clock seconds, when the server was heard last.
"""

from dataclasses import replace

from coderd.model.netmap import NetMap, NodeKind

SAVE_INTERVAL = 600.0
"""Seconds between two notes of ``heard_at`` while connected; a crash makes the limit this much shorter, never longer."""


class Authority:
    """Time of the server's last word, and whether that word has expired.

    Args:
        limit: seconds that its word is good for; 0 = for ever.
        heard_at: when it was heard, in wall-clock seconds, by an earlier process; 0 = nobody knows.
        now: seconds on the clock that counts from here on.
        unix_now: the same instant in wall-clock seconds; a clock that was set back makes nothing older.
    """

    def __init__(self, limit: float, *, heard_at: float, now: float, unix_now: float) -> None:
        self._limit = limit
        self._heard_at = now - (max(0.0, unix_now - heard_at) if heard_at else 0.0)

    def hear(self, now: float) -> None:
        """Notes that the server is connected."""
        self._heard_at = now

    def has_expired(self, now: float) -> bool:
        """Returns whether the server's last word is older than the limit."""
        return bool(self._limit) and now - self._heard_at >= self._limit

    def heard_at(self, now: float, unix_now: float) -> float:
        """Returns when the server was heard last, in wall-clock seconds."""
        return unix_now - (now - self._heard_at)


def without_users(netmap: NetMap) -> NetMap:
    """Returns a workspace's map without its users' devices; a device's map as it is."""
    if netmap.self_node.kind is not NodeKind.WORKSPACE:
        return netmap
    kept = {node_id: peer for node_id, peer in netmap.peers.items() if peer.kind is NodeKind.WORKSPACE}
    return replace(netmap, peers=kept)
