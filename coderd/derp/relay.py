"""The relay: connected clients by key, delivery of their packets, and PeerGone. Pure.

The shell passes a connection's received bytes to ``handle_data``, which queues packets at their receivers'
connections; ``poll_woken`` returns each connection that has frames to write or must close. Per packet the
relay compares one header and rewrites it in place; per run of packets to one destination it makes one copy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from coderd.derp.client_rate import ClientRate
from coderd.derp.connection import MAX_HEARD, CloseReason, Connection
from coderd.derp.frame import (
    DISCO_MAGIC,
    HEADER,
    HEADER_SIZE,
    KEYED_HEADER_SIZE,
    MAX_PACKET_SIZE,
    MIN_DISCO_SIZE,
    FrameReader,
    FrameType,
    PeerGoneReason,
    Restarting,
    check_size,
    encode_peer_gone,
    encode_restarting,
    encode_server_key,
)
from coderd.derp.handshake import (
    MAX_CLIENT_INFO_SIZE,
    ClientInfo,
    ServerInfo,
    encode_server_info,
    parse_client_info,
)
from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes, limits
from coderd.model.errors import MalformedPacket
from coderd.model.keys import KEY_SIZE, NodePublic, ServerPrivate, ServerPublic

MAX_FRAMES: Final = limits.MAX_DERP_FRAMES_PER_TURN
"""Most frames that one ``handle_data`` handles; ``RUN`` packets of a run count as one frame."""
RUN: Final = 16
"""Packets of one destination and size in a row that cost about as much time as one other frame."""
MAX_PING_SIZE: Final = limits.MAX_DERP_PING
PING_SIZE: Final = 8
MAX_CONNECTIONS: Final = limits.MAX_DERP_CONNECTIONS_OF_KEY
"""Most connections of one key: room for some that broke without a close."""
_DISCO_FIRST_BYTE: Final = DISCO_MAGIC[0]
_MESH_SIZES: Final = {
    FrameType.WATCH_CONNS: (0, 0),
    FrameType.FORWARD_PACKET: (2 * KEY_SIZE, 2 * KEY_SIZE + MAX_PACKET_SIZE),
    FrameType.CLOSE_PEER: (KEY_SIZE, KEY_SIZE),
}
"""Least and most payload bytes of the frames between relays of a mesh."""


@dataclass(frozen=True, slots=True)
class ClientStats:
    """Counters of one key's open connections; bytes include frame headers."""

    n_connections: int
    is_home: bool
    bytes_in: int
    bytes_out: int
    packets_in: int
    packets_out: int


class Introduction:
    """A connection up to its client's first frame, ClientInfo."""

    def __init__(self, private: ServerPrivate) -> None:
        self._private = private
        self._reader = FrameReader(MAX_CLIENT_INFO_SIZE)

    def handle_data(self, data: Buffer) -> tuple[NodePublic, ClientInfo] | None:
        """Adds received bytes; returns the client's key and ClientInfo once that is whole.

        Raises: MalformedPacket, also where the first frame is another one.
        """
        self._reader.feed(data)
        buffer = self._reader.buffer
        if buffer and buffer[0] != FrameType.CLIENT_INFO:
            raise MalformedPacket(f"a client's first frame is ClientInfo, not {buffer[0]:#x}")
        frame = self._reader.next_frame()
        return None if frame is None else parse_client_info(frame.payload, self._private)

    def leftover(self) -> bytes:
        """Returns the bytes that came behind ClientInfo, for ``Relay.handle_data``."""
        return bytes(self._reader.buffer)


class Relay:
    """The connections of one relay, by the clients' keys.

    Args:
        private: the relay's key.
        rng: randomness for nonces and keep-alive jitter.
        counters: ``derp.relay.*`` of relayed packets, ``derp.drop.*`` of dropped ones by reason.
        client_rate: announced to each client, and enforced on its connection; None for no limit.
    """

    def __init__(
        self,
        private: ServerPrivate,
        *,
        rng: RandomBytes,
        counters: Counters | None = None,
        client_rate: ClientRate | None = None,
    ) -> None:
        self.counters = Counters() if counters is None else counters
        self._client_rate = client_rate
        self._private = private
        self._rng = rng
        self._public = private.public()
        self._readers: dict[Connection, FrameReader] = {}
        # The connections of a key in the order in which they became active: the last one gets the packets.
        self._clients: dict[NodePublic, list[Connection]] = {}
        self._heard_of: dict[NodePublic, dict[Connection, None]] = {}
        self._woken: dict[Connection, None] = {}

    @property
    def public(self) -> ServerPublic:
        """The relay's public key."""
        return self._public

    # Commands

    def greeting(self) -> bytes:
        """Returns ServerKey, the first frame of every connection."""
        return encode_server_key(self._public)

    def introduction(self) -> Introduction:
        """Returns a new reader of a client's ClientInfo."""
        return Introduction(self._private)

    def connect(self, key: NodePublic, info: ClientInfo, now: float) -> Connection:
        """Adds an admitted client's connection, which gets the key's packets from now on; queues ServerInfo.

        Beyond MAX_CONNECTIONS of the key, the one that was silent longest is closed.
        """
        jitter = int.from_bytes(self._rng(2)) / 65536
        connection = Connection(key, info, jitter=jitter, now=now, rate=self._client_rate)
        self._readers[connection] = FrameReader()
        connections = self._clients.setdefault(key, [])
        connections.append(connection)
        for quiet in [other for other in connections if other.closing is None][:-MAX_CONNECTIONS]:
            self._close(quiet, CloseReason.CROWDED)
        connection.push_control(encode_server_info(self._server_info(), self._private, key, self._rng))
        self._woken[connection] = None
        return connection

    def _server_info(self) -> ServerInfo:
        if self._client_rate is None:
            return ServerInfo()
        rate, burst = self._client_rate
        return ServerInfo(token_bucket_bytes_per_second=rate, token_bucket_bytes_burst=burst)

    def disconnect(self, connection: Connection) -> None:
        """Removes a connection; if it was its key's last, receivers of the key's packets get PeerGone."""
        if self._readers.pop(connection, None) is None:
            return
        self._woken.pop(connection, None)
        for key in connection.heard:
            self._heard_of.get(key, {}).pop(connection, None)
        remaining = self._clients[connection.key]
        remaining.remove(connection)
        if not remaining:
            del self._clients[connection.key]
            self._announce_gone(connection.key)

    def close_client(self, key: NodePublic) -> int:
        """Marks all connections of a key as closing; returns how many there are."""
        connections = self._clients.get(key, [])
        for connection in connections:
            self._close(connection, CloseReason.KEY_REPLACED)
        return len(connections)

    def announce_restart(self, reconnect_in: float, try_for: float) -> None:
        """Queues Restarting to every client: seconds after which to connect again, and for which to try."""
        frame = encode_restarting(Restarting(reconnect_in, try_for))
        for connections in self._clients.values():
            for connection in connections:
                connection.push_control(frame)
                self._woken[connection] = None

    # What happened

    def handle_data(self, connection: Connection, data: Buffer, now: float) -> bool:
        """Handles received bytes of a client's stream, cut anywhere, up to MAX_FRAMES frames.

        A violation of the protocol marks the connection as closing.

        Returns: whether frames may be left: call again, with empty data, after other tasks have run.
        """
        reader = self._readers.get(connection)
        if reader is None or connection.closing is not None:
            return False
        reader.feed(data)
        try:
            consumed, n_frames = self._handle_frames(connection, reader.buffer, now)
        except MalformedPacket:
            self._close(connection, CloseReason.MALFORMED)
            return False
        reader.consume(consumed)
        connection.bytes_in += consumed
        if consumed:
            self._note_activity(connection)
        return n_frames >= MAX_FRAMES

    # What to do next

    def poll_woken(self) -> Connection | None:
        """Removes and returns a connection that has frames to write or must close; None if there is none."""
        return self._woken.popitem()[0] if self._woken else None

    # Looking

    def stats(self) -> dict[NodePublic, ClientStats]:
        """Returns the counters of each connected key."""
        return {key: _stats(connections) for key, connections in self._clients.items()}

    def queued(self) -> tuple[int, int]:
        """Returns the numbers of packets and bytes that wait, for all clients together."""
        waiting = [connection.queued for connections in self._clients.values() for connection in connections]
        return sum(n_packets for n_packets, _ in waiting), sum(n_bytes for _, n_bytes in waiting)

    # Frames

    def _handle_frames(self, connection: Connection, buffer: bytearray, now: float) -> tuple[int, int]:
        """Handles whole frames, MAX_FRAMES at most. Returns the offset of their end, and their number.

        ``RUN`` packets of a run are one frame. Raises MalformedPacket.
        """
        offset, end, n_frames = 0, len(buffer), 0
        while end - offset >= HEADER_SIZE and connection.closing is None and n_frames < MAX_FRAMES:
            kind, length = HEADER.unpack_from(buffer, offset)
            _check_client_frame(kind, length)
            stop = offset + HEADER_SIZE + length
            if stop > end:
                break
            if kind == FrameType.SEND_PACKET:
                size = stop - offset
                n_most = (MAX_FRAMES - n_frames) * RUN
                stop = self._relay_run(connection, buffer, offset, stop, now, n_most)
                n_frames += -(-(stop - offset) // (size * RUN))
            else:
                self._handle_frame(connection, kind, bytes(buffer[offset + HEADER_SIZE : stop]))
                n_frames += 1
            offset = stop
        return offset, n_frames

    def _relay_run(
        self, connection: Connection, buffer: bytearray, start: int, stop: int, now: float, n_most: int
    ) -> int:
        """Relays a SendPacket, and those behind it with an equal header: ``n_most`` in all.

        An equal header means one destination and one size.

        Each is rewritten as RecvPacket in place. A disco packet is a run of its own, for a queue of its own.

        Returns: the offset of the run's end.
        """
        size = stop - start
        head = buffer[start : start + KEYED_HEADER_SIZE]
        received_head = HEADER.pack(FrameType.RECV_PACKET, size - HEADER_SIZE) + connection.key
        is_disco = size - KEYED_HEADER_SIZE >= MIN_DISCO_SIZE and buffer.startswith(
            DISCO_MAGIC, start + KEYED_HEADER_SIZE
        )
        buffer[start : start + KEYED_HEADER_SIZE] = received_head
        if not is_disco and size > KEYED_HEADER_SIZE:
            end = min(len(buffer), start + n_most * size)
            while (
                stop + size <= end
                and buffer.startswith(head, stop)
                and buffer[stop + KEYED_HEADER_SIZE] != _DISCO_FIRST_BYTE
            ):
                buffer[stop : stop + KEYED_HEADER_SIZE] = received_head
                stop += size
        with memoryview(buffer) as view:
            run = bytes(view[start:stop])
        to = bytes(head[HEADER_SIZE:])
        self._deliver(connection, to, run, (stop - start) // size, is_disco=is_disco, now=now)
        return stop

    def _deliver(
        self, sender: Connection, to: bytes, run: bytes, n_packets: int, *, is_disco: bool, now: float
    ) -> None:
        sender.packets_in += n_packets
        connections = self._clients.get(to)  # type: ignore[call-overload]  # a key equals its bytes
        if not connections:
            self._answer_not_here(sender, NodePublic(to), n_packets, is_disco=is_disco, now=now)
            return
        receiver: Connection = connections[-1]
        if sender.key not in receiver.heard:
            self._note_heard(receiver, sender.key)
        dropped = receiver.push(run, n_packets, is_disco=is_disco)
        self._woken[receiver] = None
        self.counters["derp.relay.packets"] += n_packets
        self.counters["derp.relay.bytes"] += len(run)
        if dropped:
            self.counters["derp.drop.queue_full"] += dropped

    def _note_heard(self, receiver: Connection, sender: NodePublic) -> None:
        """Notes that the receiver gets PeerGone when the sender leaves; forgets the oldest past MAX_HEARD."""
        receiver.heard[sender] = None
        self._heard_of.setdefault(sender, {})[receiver] = None
        if len(receiver.heard) > MAX_HEARD:
            oldest = next(iter(receiver.heard))
            del receiver.heard[oldest]
            self._heard_of.get(oldest, {}).pop(receiver, None)

    def _answer_not_here(
        self, sender: Connection, to: NodePublic, n_packets: int, *, is_disco: bool, now: float
    ) -> None:
        """Counts packets to a key that is not connected; a disco sender gets PeerGone, at a limited rate."""
        self.counters["derp.drop.unknown_destination"] += n_packets
        if is_disco and sender.not_here.take(1.0, now):
            sender.push_control(encode_peer_gone(to, PeerGoneReason.NOT_HERE))
            self._woken[sender] = None

    def _handle_frame(self, connection: Connection, kind: int, payload: bytes) -> None:
        """Handles a frame other than SendPacket, of a valid size; unknown ones are ignored."""
        if kind == FrameType.PING:
            if connection.push_pong(payload[:PING_SIZE]):
                self._woken[connection] = None
        elif kind == FrameType.NOTE_PREFERRED:
            connection.is_home = payload != b"\x00"
        elif kind in _MESH_SIZES:
            # This relay has no mesh key, so no client can have proved it.
            self._close(connection, CloseReason.NO_MESH)

    # Connections

    def _note_activity(self, connection: Connection) -> None:
        """Makes a connection, of several of its key, the one that gets the key's packets."""
        connections = self._clients[connection.key]
        if connections[-1] is not connection:
            connections.remove(connection)
            connections.append(connection)

    def _announce_gone(self, key: NodePublic) -> None:
        """Queues PeerGone to each connection that was sent packets from a key.

        ``heard`` keeps the key, so a connection gets one PeerGone of it at most.
        """
        for listener in self._heard_of.pop(key, {}):
            listener.push_control(encode_peer_gone(key, PeerGoneReason.DISCONNECTED))
            self._woken[listener] = None

    def _close(self, connection: Connection, reason: CloseReason) -> None:
        connection.closing = reason
        self._woken[connection] = None


def _check_client_frame(kind: int, length: int) -> None:
    """Checks the length in the header of a client's frame. Raises MalformedPacket."""
    if kind == FrameType.SEND_PACKET:
        is_valid = KEY_SIZE <= length <= KEY_SIZE + MAX_PACKET_SIZE
    elif kind == FrameType.PING:
        is_valid = PING_SIZE <= length <= MAX_PING_SIZE
    elif kind == FrameType.NOTE_PREFERRED:
        is_valid = length == 1
    elif (mesh_size := _MESH_SIZES.get(kind)) is not None:  # type: ignore[call-overload]  # an IntEnum equals its number
        is_valid = mesh_size[0] <= length <= mesh_size[1]
    else:
        check_size(kind, length)
        return
    if not is_valid:
        raise MalformedPacket(f"frame of type {kind:#x} with {length} bytes")


def _stats(connections: Iterable[Connection]) -> ClientStats:
    every = list(connections)
    return ClientStats(
        n_connections=len(every),
        is_home=any(connection.is_home for connection in every),
        bytes_in=sum(connection.bytes_in for connection in every),
        bytes_out=sum(connection.bytes_out for connection in every),
        packets_in=sum(connection.packets_in for connection in every),
        packets_out=sum(connection.packets_out for connection in every),
    )
