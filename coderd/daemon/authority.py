"""Expires a workspace's users after ``authorised_for`` seconds without its server. Pure.

While the server is connected, its last NetMap is in force. Without a connection time counts, also while the
daemon is down: the state file keeps the wall-clock time at which the server was last heard.
"""

from dataclasses import replace

from coderd.model.netmap import NetMap, NodeKind

SAVE_INTERVAL = 600.0
"""Seconds between two saves of ``heard_at`` while connected; a crash shortens the limit by up to this much.
"""


class Authority:
    """Time at which the server was last heard, and whether its authorisations have expired since.

    Args:
        limit: seconds that authorisations last without the server; 0: they do not expire.
        heard_at: wall-clock seconds at which an earlier process last heard the server; 0: unknown, taken as
            now.
        now: seconds on the clock that later calls use.
        unix_now: wall-clock seconds at ``now``; where the clock was set back to before ``heard_at``, the
            server counts as heard now.
    """

    def __init__(self, limit: float, *, heard_at: float, now: float, unix_now: float) -> None:
        self._limit = limit
        self._heard_at = now - (max(0.0, unix_now - heard_at) if heard_at else 0.0)

    def hear(self, now: float) -> None:
        """Records that the server is connected now."""
        self._heard_at = now

    def has_expired(self, now: float) -> bool:
        """Returns whether the server was last heard ``limit`` seconds ago or longer."""
        return bool(self._limit) and now - self._heard_at >= self._limit

    def heard_at(self, now: float, unix_now: float) -> float:
        """Returns when the server was last heard, in wall-clock seconds."""
        return unix_now - (now - self._heard_at)


def without_users(netmap: NetMap) -> NetMap:
    """Returns a workspace's NetMap without its peers that are devices, or a device's NetMap unchanged."""
    if netmap.self_node.kind is not NodeKind.WORKSPACE:
        return netmap
    kept = {node_id: peer for node_id, peer in netmap.peers.items() if peer.kind is NodeKind.WORKSPACE}
    return replace(netmap, peers=kept)
