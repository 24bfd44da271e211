"""Which relays are up, and which of them reaches a peer."""

from coderd.magicsock.peer_relay import PeerRelay


class RelaySet:
    """Regions to whose relays there are links."""

    def __init__(self) -> None:
        self._connected: set[int] = set()

    def __contains__(self, region: object) -> bool:
        return region in self._connected

    def handle_connected(self, region: int) -> None:
        """Notes that the link to a region's relay is up."""
        self._connected.add(region)

    def handle_broken(self, region: int) -> None:
        """Notes that the link to a region's relay is down."""
        self._connected.discard(region)

    def region_for(self, peer: PeerRelay) -> int:
        """Chooses the relay to reach a peer by; 0 if none is known.

        That is its home if connected, else where it was last heard if that is connected, else its home, to be
        dialled.
        """
        home, heard = peer.home, peer.heard
        if home not in self._connected and heard in self._connected:
            return heard
        return home or heard

    def reaches(self, peer: PeerRelay) -> bool:
        """Returns whether a peer can be reached by relay without dialling one."""
        return peer.is_known and self.region_for(peer) in self._connected
