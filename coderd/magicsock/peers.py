"""The NetMap's peers by node key, each with its endpoint, and the earliest of their deadlines."""

from collections.abc import Callable, Collection, Iterator

from coderd.magicsock.endpoint import Endpoint
from coderd.magicsock.peer_map import PeerMap
from coderd.magicsock.peer_state import PeerState
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.punching import Punching
from coderd.model import RandomBytes
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic
from coderd.model.netmap import Capability, Peer
from coderd.model.paths import PathPolicy
from coderd.model.schedule import Schedule
from coderd.model.transport import SocketId


class Peers:
    """Table of all peers. Its owner is ``Conn``, which drains the endpoint of each peer that was changed.

    Args:
        peer_map: learns the peers' disco keys.
        punching: forgets what was tried with a peer that restarts or goes.
        budget: limits pings to addresses that have not answered; shared by all endpoints.
        rng: for transaction ids.
        probe_size: UDP payload in bytes that a path must carry to be chosen.

    Attributes:
        get: returns a peer's state by its node key, or None: the dict's own method, as each batch calls it.
    """

    def __init__(
        self,
        *,
        peer_map: PeerMap,
        punching: Punching,
        budget: PingBudget,
        rng: RandomBytes,
        probe_size: int,
    ) -> None:
        self._states: dict[NodePublic, PeerState] = {}
        self.get: Callable[[NodePublic], PeerState | None] = self._states.get
        self._peer_map = peer_map
        self._punching = punching
        self._budget = budget
        self._rng = rng
        self._probe_size = probe_size
        self._schedule: Schedule[Endpoint] = Schedule()

    def __getitem__(self, key: NodePublic) -> PeerState:
        return self._states[key]

    def __iter__(self) -> Iterator[PeerState]:
        return iter(self._states.values())

    # Commands

    def set(self, peer: Peer, now: float) -> PeerState | None:
        """Adds a peer, or takes what has changed of it. Returns its state; None where nothing has changed."""
        state = self._states.get(peer.node_key)
        if state is not None and state.peer == peer:
            return None
        if state is None:
            state = self._add(peer, now)
        elif (state.peer.generation, state.peer.disco_key) != (peer.generation, peer.disco_key):
            state.endpoint.restart()
            self._punching.forget_peer(peer.node_key)
        state.peer = peer
        self._peer_map.set_peer(peer.node_key, peer.disco_key)
        self._punching.set_willing(peer.node_key, is_willing=Capability.BIRTHDAY in peer.capabilities)
        allows_direct = peer.path_policy is PathPolicy.ANY
        state.endpoint.update(peer.endpoints, peer.home_region, allows_direct=allows_direct, now=now)
        return state

    def introduce(self, peer: Peer, now: float) -> PeerState | None:
        """Takes the disco key that a restarted peer has announced, and looks for a path anew.

        Returns its state; None for an unknown peer.
        """
        state = self._states.get(peer.node_key)
        if state is None:
            return None
        state.peer = peer
        self._peer_map.set_peer(peer.node_key, peer.disco_key)
        state.endpoint.handle_rebound(now)
        state.endpoint.discover(now)
        return state

    def keep_only(self, keys: Collection[NodePublic]) -> None:
        """Removes all peers but those with these node keys."""
        for key in [key for key in self._states if key not in keys]:
            self._schedule.discard(self._states.pop(key).endpoint)
            self._peer_map.remove_peer(key)
            self._punching.forget_peer(key)
            self._punching.set_willing(key, is_willing=False)
            self._budget.forget_peer(key)

    # Deadlines

    def update_deadline(self, state: PeerState) -> None:
        """Takes note of when a peer's endpoint is due; to be called after anything that happened to it."""
        self._schedule.update(state.endpoint)

    def first_due(self, now: float) -> PeerState | None:
        """Returns the peer whose endpoint has been due for longest, or None."""
        endpoint = self._schedule.first_due(now)
        return self._states[endpoint.key] if endpoint is not None else None

    def poll_timeout(self) -> Deadline | None:
        """Returns the earliest deadline of all endpoints."""
        return self._schedule.poll_timeout()

    # Looking

    def uses(self, peer: NodePublic, socket: SocketId, now: float) -> bool:
        """Returns whether a peer's trusted path goes by a spare socket."""
        return (state := self._states.get(peer)) is not None and state.endpoint.uses(socket, now)

    def _add(self, peer: Peer, now: float) -> PeerState:
        endpoint = Endpoint(peer.node_key, rng=self._rng, probe_size=self._probe_size, budget=self._budget)
        state = self._states[peer.node_key] = PeerState(peer, endpoint, now)
        return state
