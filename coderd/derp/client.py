"""The client's end of one DERP connection, from the ServerKey frame on. Pure.

The owner passes received bytes to ``handle_data``, then drains: ``poll_transmit`` returns bytes to write,
``poll_event`` events, ``poll_timeout`` when to call ``handle_timeout``. Bytes that violate the protocol raise
MalformedPacket, after which the owner closes the connection.
"""

from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from coderd.derp.frame import (
    DISCO_MAGIC,
    HEADER,
    HEADER_SIZE,
    KEYED_HEADER_SIZE,
    Frame,
    FrameReader,
    FrameType,
    PeerGone,
    Restarting,
    check_size,
    encode_frame,
    encode_note_preferred,
    encode_send_packets,
    parse_peer_gone,
    parse_restarting,
    parse_server_key,
)
from coderd.derp.handshake import ClientInfo, ServerInfo, encode_client_info, parse_server_info
from coderd.derp.queue import PacketQueue
from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes, limits
from coderd.model.deadline import Deadline
from coderd.model.errors import MalformedPacket
from coderd.model.keys import KEY_SIZE, NodePrivate, NodePublic, ServerPublic
from coderd.model.timers import TimerTable
from coderd.model.token_bucket import TokenBucket

MAX_FRAMES: Final = limits.MAX_DERP_FRAMES_PER_TURN
"""Most frames that one ``handle_data`` handles; ``RUN`` packets of a run count as one frame."""
RUN: Final = 16
"""Packets of one sender and size in a row that together count as one frame."""
PING_INTERVAL: Final = 2.0
"""Seconds of silence after which the relay is sent a Ping."""
SILENCE_TIMEOUT: Final = 2.5
"""Seconds of silence after the Ping until the relay counts as dead: in all less than 5 s."""
QUEUE_PACKETS: Final = 512
QUEUE_BYTES: Final = 1 << 20
DISCO_QUEUE_PACKETS: Final = 64
WRITE_SIZE: Final = 64 * 1024
"""Bytes of one write, about: a Ping then does not wait long behind it on a slow line."""
PING_SIZE: Final = 8


class Ready(NamedTuple):
    """Event of admission: the relay serves this node's key."""

    server_key: ServerPublic
    info: ServerInfo


class Packets(NamedTuple):
    """Event of packets from one sender, in order."""

    sender: NodePublic
    packets: list[bytes]


class Health(NamedTuple):
    """Event of a Health frame: the relay's problem with this connection, empty once it is solved."""

    problem: str


ClientEvent: TypeAlias = Ready | Packets | PeerGone | Health | Restarting


class Timer(IntEnum):
    """Timers of a connection; one of the two is armed at any time."""

    PING = 0
    """Due when no byte has come for PING_INTERVAL: sends a Ping."""
    SILENCE = 1
    """Due when no byte has come for SILENCE_TIMEOUT since the Ping: the relay is dead."""


class DerpClient:
    """The client's end of one connection to a relay.

    Args:
        private: this node's key, of which a NaCl box proves the possession to the relay.
        is_home: whether this relay is where peers look for this node.
        rng: randomness for nonces and pings.
        now: seconds on the clock of all other ``now`` arguments.
        counters: ``derp.drop.*`` by reason.
        server_key: the relay's key if it is known beforehand: ClientInfo is then sent at once (fast start).

    Attributes:
        is_greeted: whether the relay's first frame, ServerKey, has come.
        server_key: the relay's key, None until it is known.
        server_info: the relay's ServerInfo, None until this node is admitted.
    """

    def __init__(
        self,
        private: NodePrivate,
        *,
        is_home: bool,
        rng: RandomBytes,
        now: float,
        counters: Counters | None = None,
        server_key: ServerPublic | None = None,
    ) -> None:
        self.is_greeted = False
        self.server_key = server_key
        self.server_info: ServerInfo | None = None
        self._private = private
        self._is_home = is_home
        self._rng = rng
        self._counters = Counters() if counters is None else counters
        self._reader = FrameReader()
        self._events: deque[ClientEvent] = deque()
        self._control: list[bytes] = []
        self._disco = PacketQueue(DISCO_QUEUE_PACKETS, QUEUE_BYTES)
        self._data = PacketQueue(QUEUE_PACKETS, QUEUE_BYTES)
        self._bucket: TokenBucket | None = None
        self._timers = TimerTable(Timer)
        self._timers.arm(Timer.PING, now + PING_INTERVAL)
        self._pong: bytes | None = None
        if server_key is not None:
            self._introduce(server_key)

    @property
    def n_waiting(self) -> int:
        """Number of packets in the queue, without disco's."""
        return self._data.n_packets

    # Commands

    def send(self, to: NodePublic, packets: Sequence[bytes], now: float) -> None:
        """Queues packets for a peer; drops those above the relay's rate, and the oldest of a full queue.

        Args:
            to: the peer's key.
            packets: all of them disco's if the first one is; at most ``MAX_PACKET_SIZE`` bytes each.
            now: seconds.

        Raises: ValueError on a packet that is too large.
        """
        if self._bucket is not None:
            packets = self._within_rate(self._bucket, packets, now)
        if not packets:
            return
        queue = self._disco if packets[0][:6] == DISCO_MAGIC else self._data
        dropped = queue.push(encode_send_packets(to, packets), len(packets))
        if dropped:
            self._counters["derp.drop.queue_full"] += dropped

    def note_preferred(self, is_home: bool) -> None:
        """Sends NotePreferred, whether the relay is this node's home, if that has changed."""
        if is_home == self._is_home:
            return
        self._is_home = is_home
        if self.server_key is not None:
            self._control.append(encode_note_preferred(is_home))

    # What happened

    def handle_data(self, data: Buffer, now: float) -> bool:
        """Handles received bytes of the stream, cut anywhere, up to ``MAX_FRAMES`` frames.

        Returns: whether frames may be left: call again, with empty data, after other tasks have run.
        Raises: MalformedPacket where the bytes violate the protocol.
        """
        self._timers.arm(Timer.PING, now + PING_INTERVAL)
        self._timers.disarm(Timer.SILENCE)
        self._reader.feed(data)
        n_left = MAX_FRAMES
        if self.server_info is None:
            n_left -= self._handle_greeting()
        if self.server_info is not None and n_left > 0 and self._reader.has_frame():
            n_left -= self._handle_frames(n_left)
        return n_left <= 0

    def handle_timeout(self, now: float) -> None:
        """Queues a Ping to a silent relay.

        Raises MalformedPacket if it has not answered in SILENCE_TIMEOUT.
        """
        match self._timers.pop_due(now):
            case Timer.SILENCE:
                raise MalformedPacket("the relay has fallen silent")
            case Timer.PING:
                self._control.append(encode_frame(FrameType.PING, self._rng(PING_SIZE)))
                self._timers.arm(Timer.SILENCE, now + SILENCE_TIMEOUT)

    # What to do next

    def poll_transmit(self) -> bytes | None:
        """Returns the frames that wait, joined for one write (control, disco, data), or None.

        Disco and data are about WRITE_SIZE bytes each at most.
        """
        pieces: list[Buffer] = [*self._control]
        self._control.clear()
        if self._pong is not None:
            pieces.append(encode_frame(FrameType.PONG, self._pong))
            self._pong = None
        if self.server_key is not None:
            pieces += self._disco.take(WRITE_SIZE)
            pieces += self._data.take(WRITE_SIZE)
        return b"".join(pieces) if pieces else None

    def poll_event(self) -> ClientEvent | None:
        """Returns the next event, or None if there is none."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Deadline:
        """Returns when to call ``handle_timeout``, and which timer is due then."""
        deadline = self._timers.poll_timeout()
        assert deadline is not None, "one timer is armed until the relay has fallen silent"
        return deadline

    # Reading

    def _handle_greeting(self) -> int:
        """Handles frames up to ServerInfo, and answers ServerKey; later frames stay in the reader.

        Returns: the number of frames up to ServerInfo; MAX_FRAMES or 0 before it, as frames are left or not.
        """
        for n_frames, frame in enumerate(islice(self._reader, MAX_FRAMES), 1):
            if not self.is_greeted:
                self._take_server_key(frame)
            elif frame.kind == FrameType.SERVER_INFO and self.server_key is not None:
                self._take_server_info(self.server_key, frame.payload)
                return n_frames
            else:
                self._handle_frame(frame)
        return MAX_FRAMES if self._reader.has_frame() else 0

    def _take_server_key(self, frame: Frame) -> None:
        """Handles ServerKey, the relay's first frame; after a fast start it is not answered again."""
        if frame.kind != FrameType.SERVER_KEY:
            raise MalformedPacket(f"a relay's first frame is ServerKey, not {frame.kind:#x}")
        key = parse_server_key(frame.payload)
        self.is_greeted = True
        if self.server_key is None:
            self.server_key = key
            self._introduce(key)

    def _introduce(self, server_key: ServerPublic) -> None:
        info = ClientInfo(can_ack_pings=True)
        self._control.append(encode_client_info(info, self._private, server_key, self._rng))
        if self._is_home:
            self._control.append(encode_note_preferred(True))

    def _take_server_info(self, server_key: ServerPublic, payload: bytes) -> None:
        info = parse_server_info(payload, self._private, server_key)
        self.server_info = info
        if info.token_bucket_bytes_per_second > 0:
            rate, burst = info.token_bucket_bytes_per_second, info.token_bucket_bytes_burst
            self._bucket = TokenBucket(rate, burst)
        self._events.append(Ready(server_key, info))

    def _handle_frames(self, n_most: int) -> int:
        """Handles whole frames in the buffer, ``n_most`` at most, ``RUN`` packets as one; returns how many.

        Packets of one sender in a row become one event. Raises MalformedPacket.
        """
        data = bytes(self._reader.buffer)
        offset, end, n_frames = 0, len(data), 0
        while end - offset >= HEADER_SIZE and n_frames < n_most:
            kind, length = HEADER.unpack_from(data, offset)
            check_size(kind, length)
            stop = offset + HEADER_SIZE + length
            if stop > end:
                break
            if kind == FrameType.RECV_PACKET and length >= KEY_SIZE:
                size = stop - offset
                stop = self._take_run(data, offset, stop, (n_most - n_frames) * RUN)
                n_frames += -(-(stop - offset) // (size * RUN))
            else:
                self._handle_frame(Frame(kind, data[offset + HEADER_SIZE : stop]))
                n_frames += 1
            offset = stop
        self._reader.consume(offset)
        return n_frames

    def _take_run(self, data: bytes, start: int, stop: int, n_most: int) -> int:
        """Handles a RecvPacket, and those behind it with an equal header: ``n_most`` in all.

        An equal header means one sender and one size.

        Returns: the offset of the run's end.
        """
        size = stop - start
        head = data[start : start + KEYED_HEADER_SIZE]
        end = min(len(data), start + n_most * size)
        while stop + size <= end and data.startswith(head, stop):
            stop += size
        sender = head[HEADER_SIZE:]
        packets = [data[at + KEYED_HEADER_SIZE : at + size] for at in range(start, stop, size)]
        last = self._events[-1] if self._events else None
        if isinstance(last, Packets) and last.sender == sender:
            last.packets.extend(packets)
        else:
            self._events.append(Packets(NodePublic(sender), packets))
        return stop

    def _handle_frame(self, frame: Frame) -> None:
        """Handles a frame other than a packet; counts and drops short ones, ignores unknown ones."""
        try:
            match frame.kind:
                case FrameType.PING if len(frame.payload) >= PING_SIZE:
                    self._pong = frame.payload[:PING_SIZE]
                case FrameType.PEER_GONE:
                    self._events.append(parse_peer_gone(frame.payload))
                case FrameType.HEALTH:
                    self._events.append(Health(frame.payload.decode(errors="replace")))
                case FrameType.RESTARTING:
                    self._events.append(parse_restarting(frame.payload))
                case FrameType.PING | FrameType.RECV_PACKET:
                    self._counters["derp.drop.short_frame"] += 1
                case _:
                    pass
        except MalformedPacket:
            self._counters["derp.drop.short_frame"] += 1

    def _within_rate(self, bucket: TokenBucket, packets: Sequence[bytes], now: float) -> list[bytes]:
        kept = [packet for packet in packets if bucket.take(KEYED_HEADER_SIZE + len(packet), now)]
        self._counters["derp.drop.rate_limited"] += len(packets) - len(kept)
        return kept
