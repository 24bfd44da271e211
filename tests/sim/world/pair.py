"""Two machines of one owner, and what they say to each other."""

import itertools
from random import Random

from coderd.identity.people import Node as Identity
from coderd.identity.people import User
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind
from tests.sim.nat import Kind
from tests.sim.world.node import Node, node_id
from tests.sim.world.world import World


class Pair(World):
    """A world with a device ``user`` and a workspace ``dev``.

    Args:
        user: the NAT before the user; None: a public address.
        dev: the NAT before the workspace.
        rtt, seed, loss: see ``World``.
    """

    def __init__(
        self, *, user: Kind | None, dev: Kind | None, rtt: float = 0.05, seed: int = 1, loss: float = 0.0
    ) -> None:
        super().__init__(rtt=rtt, seed=seed, loss=loss)
        self._stream: object = None
        self._owner = User(node_id(self.rng), "team")
        self.user = self._add("laptop", NodeKind.DEVICE, user)
        self.dev = self._add("dev", NodeKind.WORKSPACE, dev)

    def _add(self, name: str, kind: NodeKind, place: Kind | None) -> Node:
        rng = Random(self.rng.randbytes(8))
        identity = Identity(node_id(rng), kind, name, self._owner, 0.0)
        return self.add_node(identity, place, rng, key=NodePrivate.generate(rng.randbytes))

    def join(self) -> None:
        """Starts both daemons, and runs until each has its relay and the other's entry."""
        for node in self.nodes:
            node.start()
        self.run_until(self.is_joined, 10)
        assert self.is_joined()

    def is_joined(self) -> bool:
        """Whether both are connected to the relay and know of each other."""
        return all(
            node.running.is_relayed and node.path_to(other) is not PathKind.NONE
            for node, other in ((self.user, self.dev), (self.dev, self.user))
        )

    def is_direct(self) -> bool:
        """Whether both use a direct path."""
        return {self.user.path_to(self.dev), self.dev.path_to(self.user)} == {PathKind.DIRECT}

    def stream(self, interval: float = 0.005) -> None:
        """From now on both nodes send each other numbered packets, the user's even, dev's odd."""
        numbers = itertools.count()
        run = self._stream = object()

        def tick() -> None:
            if self._stream is not run:
                return
            number = next(numbers)
            self.user.send(self.dev, 2 * number)
            self.dev.send(self.user, 2 * number + 1)
            self.after(interval, tick)

        tick()

    def pause_stream(self) -> None:
        """Both fall silent."""
        self._stream = None

    def gap(self, since: float) -> float:
        """The longest time since an instant for which either node received nothing of the other's stream."""
        return max(longest_gap([at for at, _ in node.arrived], since, self.now) for node in self.nodes)


def longest_gap(times: list[float], since: float, until: float) -> float:
    """The longest interval between two of some instants, from one instant to another."""
    within = [since, *(at for at in times if since <= at <= until), until]
    return max(after - before for before, after in itertools.pairwise(within))
