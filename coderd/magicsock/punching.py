"""Ways through a hard NAT: spare sockets, whose ports are foretold or come in numbers, and the search for a peer's.

Owns the spare sockets' numbers, one path's search each; the sockets themselves are the shell's. Asked by ``Conn`` at each
round of a peer that is not direct; says by ``poll_wish`` what to open, send and close. A socket is closed ten seconds after
it was asked for, unless a path has come to use it, and is looked at again every ten seconds then.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import NamedTuple, TypeAlias

from coderd.magicsock.birthday import (
    N_PROBES,
    N_SOCKETS,
    PROBE_INTERVAL,
    PROBES_AT_ONCE,
    RETRY,
    SEARCH_AFTER,
    public_ports,
    random_ports,
)
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.port_sequence import PortSequence
from coderd.model import Buffer, RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline, earliest
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePublic
from coderd.model.transport import MAIN_SOCKET, SocketId
from coderd.stun import TX_SIZE, encode_request, parse_response

MOST_TARGETS = 4
"""Addresses of a peer in one row of flows."""
MOST_SPARE = 512
"""Spare sockets of all peers together; a birthday takes half."""
ANSWER_PATIENCE = 1.0
"""Seconds for the servers' answers."""
CALL_PATIENCE = 2.0
"""Seconds for the peer to come in where it was told to."""
SPARE_LIFETIME = 10.0
"""Seconds that a spare socket is kept without use."""


class OpenSockets(NamedTuple):
    """Sockets are to be bound under these numbers; ``handle_opened`` follows."""

    sockets: tuple[SocketId, ...]


class CloseSocket(NamedTuple):
    """A socket is not wanted any more; ``peer`` is whom it was for, None where that is forgotten."""

    peer: NodePublic | None
    socket: SocketId


class SendFrom(NamedTuple):
    """A datagram to be sent by a spare socket."""

    socket: SocketId
    to: AddrPort
    datagram: bytes


class ProbeFrom(NamedTuple):
    """A peer's address to be pinged by a spare socket, which the budget has admitted."""

    peer: NodePublic
    socket: SocketId
    to: AddrPort


class Scatter(NamedTuple):
    """One small ping to be sent to many addresses, or by many sockets. What comes back is a ping of the peer's."""

    peer: NodePublic
    ways: tuple[tuple[SocketId, AddrPort], ...]
    """Socket and address of each."""


class Call(NamedTuple):
    """A peer to be told where we are: there is something new to name."""

    peer: NodePublic


Wish: TypeAlias = OpenSockets | CloseSocket | SendFrom | ProbeFrom | Scatter | Call


class _Row:
    """A spare socket's flows: server, peer's addresses, server; and what the servers said."""

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
        self.foretold: tuple[AddrPort, ...] = ()
        self.patience_until = now + ANSWER_PATIENCE


class _Search:
    """Ports of a peer's NAT that are still to be tried."""

    def __init__(self, ip: str, ports: Sequence[int], now: float) -> None:
        self.ip = ip
        self.ports = deque(ports)
        self.next_at = now


class Punching:
    """All peers' spare sockets and searches.

    Args:
        rng: for transaction ids and ports.
        plays_birthday: whether random ports are worth hundreds of sockets and pings.
        budget: says how often addresses may be pinged that have not answered.
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
        self._plays_birthday = plays_birthday
        self._budget = budget
        self._is_used = is_used
        self._numbers = count(1)
        self._rows: dict[NodePublic, _Row] = {}
        self._crowds: dict[SocketId, AddrPort] = {}
        """Sockets of a birthday that are being opened, and the address that they are for."""
        self._peer_of: dict[SocketId, NodePublic] = {}
        """Every spare socket that is wanted."""
        self._checks: deque[tuple[float, SocketId]] = deque()
        self._hard_since: dict[NodePublic, float] = {}
        """When a peer first named one address with several ports."""
        self._willing: set[NodePublic] = set()
        """Peers whose users let them play, too."""
        self._played_at: dict[NodePublic, float] = {}
        self._played_with: dict[str, float] = {}
        """When a birthday was last played with an outer address, whoever named it."""
        self._searches: dict[NodePublic, _Search] = {}
        self._wishes: deque[Wish] = deque()

    # Commands

    def punch(
        self, peer: NodePublic, targets: Sequence[AddrPort], servers: Sequence[AddrPort], now: float
    ) -> None:
        """A round for a peer that is not direct, our own mapping being one that varies: tries what is worth trying.

        Args:
            peer: whom to reach.
            targets: its IPv4 addresses, the most hopeful first.
            servers: STUN servers that answer, the nearest first; two are needed.
            now: the instant.
        """
        if not targets:
            return
        if not self.sequence.is_random(now):
            self._begin_row(peer, tuple(targets[:MOST_TARGETS]), tuple(servers[:2]), now)
        elif self._plays_birthday and _is_easy(targets) and self._may_play(peer, targets[0][0], now):
            self._begin_crowd(peer, targets[0], now)

    def search(self, peer: NodePublic, named: Iterable[AddrPort], now: float) -> None:
        """A peer that is not direct named its addresses, our own mapping being one for all: looks for a random port."""
        hard = [ip for ip, ports in public_ports(named).items() if len(ports) > 1]
        if not self._plays_birthday or not hard:
            self._hard_since.pop(peer, None)
            return
        since = self._hard_since.setdefault(peer, now)
        if now - since >= SEARCH_AFTER and not self._searches and self._may_play(peer, hard[0], now):
            self._note_played(peer, hard[0], now)
            self._searches[peer] = _Search(hard[0], random_ports(N_PROBES, self._rng), now)
            self._volley(peer, self._searches[peer], now)

    def set_willing(self, peer: NodePublic, *, is_willing: bool) -> None:
        """Whether a peer's user lets it play: a birthday is for two who both ask for it."""
        (self._willing.add if is_willing else self._willing.discard)(peer)

    def forget_peer(self, peer: NodePublic) -> None:
        """The peer is none any more, or all that was tried with it is void."""
        for socket in [socket for socket, owner in self._peer_of.items() if owner == peer]:
            self._close(socket)
        for table in (self._rows, self._hard_since, self._played_at, self._searches):
            table.pop(peer, None)

    def handle_rebound(self) -> None:
        """The network changed: another NAT, other ports."""
        self.sequence.forget()
        for peer in {*self._peer_of.values(), *self._played_at, *self._hard_since}:
            self.forget_peer(peer)

    # What happened

    def handle_opened(self, sockets: Iterable[SocketId], now: float) -> None:
        """Sockets that were wished for are there."""
        crowd = []
        for socket in sockets:
            peer = self._peer_of.get(socket)
            if (to := self._crowds.pop(socket, None)) is not None:
                crowd.append((socket, to))
            elif peer is None:
                self._wishes.append(CloseSocket(None, socket))
            elif (row := self._rows.get(peer)) is not None and row.socket == socket:
                self._begin_flows(row, now)
        if crowd:
            peer = self._peer_of[crowd[0][0]]
            self._wishes.extend((Scatter(peer, tuple(crowd)), Call(peer)))

    def handle_stun(self, datagram: Buffer, socket: SocketId, now: float) -> bool:
        """A STUN message came to a spare socket. Returns whether it was awaited.

        Once both servers have answered and their answers foretell nothing, the socket is closed, unless the peer's path has
        come to go by it.
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
        for peer, search in list(self._searches.items()):
            if search.next_at <= now:
                self._volley(peer, search, now)

    def handle_direct(self, peer: NodePublic) -> None:
        """A path was found: no need to search on."""
        self._searches.pop(peer, None)
        self._hard_since.pop(peer, None)

    # What to do next

    def poll_wish(self) -> Wish | None:
        """The next thing to open, send or close."""
        return self._wishes.popleft() if self._wishes else None

    def poll_timeout(self) -> Deadline | None:
        """When to call ``handle_timeout``."""
        checks = (Deadline(self._checks[0][0], "spare sockets") if self._checks else None,)
        searches = (Deadline(search.next_at, "search for a port") for search in self._searches.values())
        return earliest(*checks, *searches)

    # Looking

    def is_open(self, socket: SocketId) -> bool:
        """Whether a spare socket is wanted still: what comes to another was read before it was closed."""
        return socket in self._peer_of

    def foretold(self, peer: NodePublic) -> tuple[AddrPort, ...]:
        """Addresses of ours at which a peer, and nobody else, may come in."""
        row = self._rows.get(peer)
        return row.foretold if row is not None else ()

    # Rows

    def _begin_row(
        self, peer: NodePublic, targets: tuple[AddrPort, ...], servers: tuple[AddrPort, ...], now: float
    ) -> None:
        row = self._rows.get(peer)
        if len(servers) < 2 or (row is not None and now < row.patience_until and targets[0] in row.targets):
            return
        if row is not None:
            self._close(row.socket)
        if len(self._peer_of) < MOST_SPARE:
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
        """Both servers have answered: names the ports between, or gives the socket up where no path goes by it."""
        first, last = (row.seen[tx] for tx in row.tx)
        ports = (
            self.sequence.foretell(first[1], last[1], len(row.targets), now) if first[0] == last[0] else ()
        )
        if not ports:
            if not self._is_used(row.peer, row.socket, now):
                self._close(row.socket)
            return
        row.foretold = tuple((first[0], port) for port in ports)
        row.patience_until = now + CALL_PATIENCE
        self._wishes.append(Call(row.peer))

    # Birthdays

    def _may_play(self, peer: NodePublic, ip: str, now: float) -> bool:
        """Whether both users want it, and neither this peer nor this address had one of late."""
        played = (self._played_at.get(peer), self._played_with.get(ip))
        return peer in self._willing and all(at is None or now - at >= RETRY for at in played)

    def _note_played(self, peer: NodePublic, ip: str, now: float) -> None:
        self._played_with = {each: at for each, at in self._played_with.items() if now - at < RETRY}
        self._played_at[peer] = self._played_with[ip] = now

    def _begin_crowd(self, peer: NodePublic, to: AddrPort, now: float) -> None:
        if len(self._peer_of) + N_SOCKETS > MOST_SPARE:
            return
        self._note_played(peer, to[0], now)
        self._crowds |= dict.fromkeys(self._want(peer, N_SOCKETS, now), to)

    def _volley(self, peer: NodePublic, search: _Search, now: float) -> None:
        n = min(PROBES_AT_ONCE, len(search.ports))
        self._wishes.append(
            Scatter(peer, tuple((MAIN_SOCKET, (search.ip, search.ports.popleft())) for _ in range(n)))
        )
        search.next_at = now + PROBE_INTERVAL
        if not search.ports:
            del self._searches[peer]

    # Sockets

    def _want(self, peer: NodePublic, n: int, now: float) -> tuple[SocketId, ...]:
        sockets = tuple(SocketId(next(self._numbers)) for _ in range(n))
        self._peer_of |= dict.fromkeys(sockets, peer)
        self._checks.extend((now + SPARE_LIFETIME, socket) for socket in sockets)
        self._wishes.append(OpenSockets(sockets))
        return sockets

    def _close(self, socket: SocketId) -> None:
        if (peer := self._peer_of.pop(socket, None)) is None:
            return
        self._crowds.pop(socket, None)
        if (row := self._rows.get(peer)) is not None and row.socket == socket:
            del self._rows[peer]
        self._wishes.append(CloseSocket(peer, socket))


def _is_easy(targets: Sequence[AddrPort]) -> bool:
    """Whether a peer names each of its outer addresses with one port: a mapping that is the same for all."""
    ports = public_ports(targets)
    return bool(ports) and all(len(each) == 1 for each in ports.values())
