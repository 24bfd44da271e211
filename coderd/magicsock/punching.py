"""Ways through a hard NAT.

Spare sockets, whose ports are predicted or come in numbers, and the search for a peer's.

Owns the numbers of spare sockets; the sockets themselves are the shell's. ``Conn`` asks it at each round of a
peer that is not direct; ``poll_wish`` says what to open, send and close. A socket is closed ten seconds after
it was asked for, unless a path has come to use it, and is looked at again every ten seconds then.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import NamedTuple, TypeAlias

from coderd.magicsock.birthday import N_SOCKETS, Birthdays, Scatter
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.port_sequence import PortSequence
from coderd.model import Buffer, RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline, earliest
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePublic
from coderd.model.transport import SocketId
from coderd.stun import TX_SIZE, encode_request, parse_response

MOST_TARGETS = 4
"""Addresses of a peer in one row of flows."""
MOST_SPARE = 512
"""Spare sockets of all peers together; a birthday takes half."""
ANSWER_PATIENCE = 1.0
"""Seconds for the servers' answers."""
CALL_PATIENCE = 2.0
"""Seconds that the peer has to arrive at the ports that it was sent."""
SPARE_LIFETIME = 10.0
"""Seconds that a spare socket is kept without use."""


class OpenSockets(NamedTuple):
    """Wish for sockets to be bound under these numbers; ``handle_opened`` follows."""

    sockets: tuple[SocketId, ...]


class CloseSocket(NamedTuple):
    """Wish to close a socket. ``peer`` is the one that it was opened for, None if that is forgotten."""

    peer: NodePublic | None
    socket: SocketId


class SendFrom(NamedTuple):
    """Wish to send a datagram by a spare socket."""

    socket: SocketId
    to: AddrPort
    datagram: bytes


class ProbeFrom(NamedTuple):
    """Wish to ping a peer's address by a spare socket; the budget has admitted it."""

    peer: NodePublic
    socket: SocketId
    to: AddrPort


class Call(NamedTuple):
    """Wish to send a call-me-maybe to a peer: there is a new address to name."""

    peer: NodePublic


Wish: TypeAlias = OpenSockets | CloseSocket | SendFrom | ProbeFrom | Scatter | Call
"""What is to be opened, sent or closed."""


class _Row:
    """Flows of one spare socket: server, peer's addresses, server; and what the servers saw."""

    def __init__(
        self,
        peer: NodePublic,
        socket: SocketId,
        targets: tuple[AddrPort, ...],
        servers: tuple[AddrPort, AddrPort],
        now: float,
    ) -> None:
        self.peer = peer
        self.socket = socket
        self.targets = targets
        self.servers = servers
        self.tx: tuple[bytes, ...] = ()
        self.seen: dict[bytes, AddrPort] = {}
        self.predicted: tuple[AddrPort, ...] = ()
        self.patience_until = now + ANSWER_PATIENCE


class Punching:
    """Spare sockets of all peers, and what is tried with them.

    Args:
        rng: for transaction ids and ports.
        plays_birthday: whether hundreds of sockets and pings may be spent on random ports.
        budget: limits pings to addresses that have not answered.
        is_used: says whether a peer's path in use goes by a spare socket, at an instant.
    """

    def __init__(
        self,
        *,
        rng: RandomBytes,
        plays_birthday: bool,
        budget: PingBudget,
        is_used: Callable[[NodePublic, SocketId, float], bool],
    ) -> None:
        self.sequence = PortSequence()
        self._rng = rng
        self._birthdays = Birthdays(is_enabled=plays_birthday, rng=rng)
        self._budget = budget
        self._is_used = is_used
        self._numbers = count(1)
        self._rows: dict[NodePublic, _Row] = {}
        self._peer_of: dict[SocketId, NodePublic] = {}
        """Every spare socket that is wanted."""
        self._checks: deque[tuple[float, SocketId]] = deque()
        self._wishes: deque[Wish] = deque()

    # Commands

    def punch(
        self, peer: NodePublic, targets: Sequence[AddrPort], servers: Sequence[AddrPort], now: float
    ) -> None:
        """Tries what is worth trying for a peer that is not direct, as our own mapping varies by destination.

        Args:
            peer: the peer to reach.
            targets: its IPv4 addresses, the most promising first.
            servers: STUN servers that answer, the nearest first; two are needed.
            now: the instant.
        """
        if not targets:
            return
        if not self.sequence.is_random(now):
            self._begin_row(peer, tuple(targets[:MOST_TARGETS]), tuple(servers[:2]), now)
        elif self._birthdays.should_open(peer, targets, now) and self._has_room(N_SOCKETS):
            self._birthdays.begin_opening(peer, self._want(peer, N_SOCKETS, now), targets[0], now)

    def search(self, peer: NodePublic, named: Iterable[AddrPort], now: float) -> None:
        """Examines a peer's candidates; this node's mapping is endpoint-independent, the peer not direct."""
        if (volley := self._birthdays.search(peer, named, now)) is not None:
            self._wishes.append(volley)

    def set_willing(self, peer: NodePublic, *, is_willing: bool) -> None:
        """Sets whether a peer's user allows birthdays: both ends have to."""
        self._birthdays.set_willing(peer, is_willing=is_willing)

    def forget_peer(self, peer: NodePublic) -> None:
        """Closes a peer's spare sockets and forgets what was tried with it."""
        for socket in [socket for socket, owner in self._peer_of.items() if owner == peer]:
            self._close(socket)
        self._rows.pop(peer, None)
        self._birthdays.forget_peer(peer)

    def handle_rebound(self) -> None:
        """Forgets all that was tried: the network changed, hence the NAT and its ports."""
        self.sequence.forget()
        for peer in {*self._peer_of.values(), *self._birthdays.peers}:
            self.forget_peer(peer)

    # What happened

    def handle_opened(self, sockets: Iterable[SocketId], now: float) -> None:
        """Uses the sockets of an ``OpenSockets`` that were bound."""
        crowd = []
        for socket in sockets:
            peer = self._peer_of.get(socket)
            if (to := self._birthdays.pop_opening(socket)) is not None:
                crowd.append((socket, to))
            elif peer is None:
                self._wishes.append(CloseSocket(None, socket))
            elif (row := self._rows.get(peer)) is not None and row.socket == socket:
                self._begin_flows(row, now)
        if crowd:
            peer = self._peer_of[crowd[0][0]]
            self._wishes.extend((Scatter(peer, tuple(crowd)), Call(peer)))

    def handle_stun(self, datagram: Buffer, socket: SocketId, now: float) -> bool:
        """Takes a STUN message that came to a spare socket. Returns whether it was awaited.

        Once both servers have answered and their answers predict nothing, the socket is closed, unless the
        peer's path has come to go by it.
        """
        row = self._rows.get(self._peer_of[socket]) if socket in self._peer_of else None
        try:
            tx, mapped = parse_response(datagram)
        except MalformedPacket:
            return False
        if row is None or tx not in row.tx or tx in row.seen:
            return False
        row.seen[tx] = mapped
        if len(row.seen) == len(row.tx):
            self._read(row, now)
        return True

    def handle_timeout(self, now: float) -> None:
        """Closes spare sockets that no path uses, goes on searching for peers that still need it."""
        while self._checks and self._checks[0][0] <= now:
            _, socket = self._checks.popleft()
            if (peer := self._peer_of.get(socket)) is None:
                continue
            if self._is_used(peer, socket, now):
                self._checks.append((now + SPARE_LIFETIME, socket))
            else:
                self._close(socket)
        self._wishes.extend(self._birthdays.handle_timeout(now))

    def handle_direct(self, peer: NodePublic) -> None:
        """Ends the search for a peer to which a path was found."""
        self._birthdays.handle_direct(peer)

    # What to do next

    def poll_wish(self) -> Wish | None:
        """Returns the next thing to open, send or close, or None."""
        return self._wishes.popleft() if self._wishes else None

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``."""
        checks = Deadline(self._checks[0][0], "spare sockets") if self._checks else None
        return earliest(checks, self._birthdays.poll_timeout())

    # Looking

    def is_open(self, socket: SocketId) -> bool:
        """Returns whether a spare socket is still wanted.

        What comes to another was read before it was closed.
        """
        return socket in self._peer_of

    def predicted(self, peer: NodePublic) -> tuple[AddrPort, ...]:
        """Returns addresses of ours that are predicted to let this one peer in."""
        row = self._rows.get(peer)
        return row.predicted if row is not None else ()

    # Rows

    def _begin_row(
        self, peer: NodePublic, targets: tuple[AddrPort, ...], servers: tuple[AddrPort, ...], now: float
    ) -> None:
        row = self._rows.get(peer)
        if len(servers) < 2 or (row is not None and now < row.patience_until and targets[0] in row.targets):
            return
        if row is not None:
            self._close(row.socket)
        if self._has_room(1):
            (socket,) = self._want(peer, 1, now)
            self._rows[peer] = _Row(peer, socket, targets, (servers[0], servers[1]), now)

    def _begin_flows(self, row: _Row, now: float) -> None:
        row.targets = tuple(
            to for to in row.targets if self._budget.take(row.peer, to, now, is_new_flow=True)
        )
        if not row.targets:
            self._close(row.socket)
            return
        row.tx = (self._rng(TX_SIZE), self._rng(TX_SIZE))
        row.patience_until = now + ANSWER_PATIENCE
        one, two = row.servers
        self._wishes.append(SendFrom(row.socket, one, encode_request(row.tx[0])))
        self._wishes.extend(ProbeFrom(row.peer, row.socket, to) for to in row.targets)
        self._wishes.append(SendFrom(row.socket, two, encode_request(row.tx[1])))

    def _read(self, row: _Row, now: float) -> None:
        """Takes both servers' answers: predicts ports, or gives up the socket if no path uses it."""
        first, last = (row.seen[tx] for tx in row.tx)
        ports = self.sequence.predict(first[1], last[1], len(row.targets), now) if first[0] == last[0] else ()
        if not ports:
            if not self._is_used(row.peer, row.socket, now):
                self._close(row.socket)
            return
        row.predicted = tuple((first[0], port) for port in ports)
        row.patience_until = now + CALL_PATIENCE
        self._wishes.append(Call(row.peer))

    # Sockets

    def _has_room(self, n: int) -> bool:
        return len(self._peer_of) + n <= MOST_SPARE

    def _want(self, peer: NodePublic, n: int, now: float) -> tuple[SocketId, ...]:
        sockets = tuple(SocketId(next(self._numbers)) for _ in range(n))
        self._peer_of |= dict.fromkeys(sockets, peer)
        self._checks.extend((now + SPARE_LIFETIME, socket) for socket in sockets)
        self._wishes.append(OpenSockets(sockets))
        return sockets

    def _close(self, socket: SocketId) -> None:
        if (peer := self._peer_of.pop(socket, None)) is None:
            return
        self._birthdays.pop_opening(socket)
        if (row := self._rows.get(peer)) is not None and row.socket == socket:
            del self._rows[peer]
        self._wishes.append(CloseSocket(peer, socket))
