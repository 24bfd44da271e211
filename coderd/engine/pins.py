"""Which kinds of path users allow for each peer's traffic, where several tests may ask at once. Pure."""

from coderd.model.keys import NodePublic
from coderd.model.paths import Pin


class Pins:
    """Pins by peer, in the order in which they were set: two tests at once must not undo each other's."""

    def __init__(self) -> None:
        self._pins: dict[NodePublic, list[Pin]] = {}

    def add(self, peer: NodePublic, path: Pin) -> None:
        """Adds a pin behind those that a peer has."""
        self._pins.setdefault(peer, []).append(path)

    def remove(self, peer: NodePublic, path: Pin) -> None:
        """Removes one pin of this kind."""
        self._pins[peer].remove(path)
        if not self._pins[peer]:
            del self._pins[peer]

    def of(self, peer: NodePublic) -> Pin:
        """Returns the pin that counts: the first that is not ``Pin.ANY``."""
        return next((path for path in self._pins.get(peer, ()) if path is not Pin.ANY), Pin.ANY)

    def peers(self) -> set[NodePublic]:
        """Returns the peers that have a pin."""
        return set(self._pins)
