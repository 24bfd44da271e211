"""The relays at which one peer may be."""

_NEVER = float("-inf")


class PeerRelay:
    """Regions at whose relays one peer may be, and the round trip through the one in use.

    Attributes:
        home: the region at which the peer listens, as the server says; 0 for none.
        heard: the region whose relay last delivered something of the peer's; 0 for none, or none any more.
        is_known: whether there is either; kept as an attribute, since every batch asks.
        latency: the round trip in seconds; None while unmeasured.
        pinged_at: when the peer was last pinged by relay.
    """

    __slots__ = ("heard", "home", "is_known", "latency", "pinged_at")

    def __init__(self) -> None:
        self.home = 0
        self.heard = 0
        self.is_known = False
        self.latency: float | None = None
        self.pinged_at = _NEVER

    def set_home(self, region: int) -> bool:
        """Takes the server's word on the peer's home, 0 for none. Returns whether it is another."""
        is_news = region != self.home
        self.home = region
        self.is_known = bool(self.home or self.heard)
        return is_news

    def hear(self, region: int) -> None:
        """Notes that a region's relay has delivered something of the peer's."""
        self.heard = region
        self.is_known = True

    def lose(self, region: int) -> bool:
        """Notes that the peer cannot be heard through a region's relay any more.

        Returns whether it was heard there.
        """
        if self.heard != region:
            return False
        self.heard = 0
        self.is_known = bool(self.home)
        return True

    def restart(self) -> None:
        """Forgets all, as the peer has restarted, but when it was pinged."""
        self.home = self.heard = 0
        self.is_known = False
        self.latency = None
