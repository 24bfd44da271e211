"""The relay's end of one client's connection: frames that wait for the client, and its counters. Pure."""

from enum import Enum
from typing import Final

from coderd.derp.client_rate import ClientRate
from coderd.derp.frame import FrameType, encode_frame
from coderd.derp.handshake import ClientInfo
from coderd.derp.queue import PacketQueue
from coderd.model import Buffer, limits
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic
from coderd.model.token_bucket import TokenBucket

QUEUE_PACKETS: Final = limits.DERP_QUEUE_PACKETS
QUEUE_BYTES: Final = limits.DERP_QUEUE_BYTES
DISCO_QUEUE_PACKETS: Final = limits.DERP_DISCO_QUEUE_PACKETS
DISCO_QUEUE_BYTES: Final = limits.DERP_DISCO_QUEUE_BYTES
WRITE_SIZE: Final = 256 * 1024
"""Bytes of one write, about, of disco and of data each."""
KEEP_ALIVE_INTERVAL: Final = 60.0
KEEP_ALIVE_JITTER: Final = 5.0
NOT_HERE_RATE: Final = limits.DERP_NOT_HERE_RATE
NOT_HERE_BURST: Final = limits.DERP_NOT_HERE_BURST
MAX_HEARD: Final = limits.MAX_DERP_HEARD


class CloseReason(Enum):
    """Why the relay ends a connection; also the last part of a counter's name."""

    MALFORMED = "malformed"
    NOT_ADMITTED = "not_admitted"
    SLOW_READER = "slow_reader"
    SLOW_HANDSHAKE = "slow_handshake"
    NO_MESH = "no_mesh"
    KEY_REPLACED = "key_replaced"
    CROWDED = "crowded"
    TOO_MANY = "too_many"
    LEFT = "left"


class Connection:
    """An admitted client's connection. ``Relay`` owns it; the shell polls it.

    Attributes:
        key: the client's key, proved by its ClientInfo.
        info: the client's ClientInfo.
        is_home: whether this relay is the client's home.
        closing: why the connection must end, None while it goes on; frames that wait are then not written.
        heard: peers from which this connection was sent packets, at most ``MAX_HEARD``: it gets one PeerGone
            of each.
        not_here: limits the PeerGone frames for destinations that are not connected.
    """

    def __init__(
        self, key: NodePublic, info: ClientInfo, *, jitter: float, now: float, rate: ClientRate | None = None
    ) -> None:
        self.key = key
        self.info = info
        self.is_home = False
        self.closing: CloseReason | None = None
        self.heard: dict[NodePublic, None] = {}
        self.bytes_in = self.bytes_out = self.packets_in = self.packets_out = 0
        self.not_here = TokenBucket(NOT_HERE_RATE, NOT_HERE_BURST, now)
        self._bucket = TokenBucket(rate.bytes_per_second, rate.burst, now) if rate is not None else None
        self._control: list[bytes] = []
        self._disco = PacketQueue(DISCO_QUEUE_PACKETS, DISCO_QUEUE_BYTES)
        self._data = PacketQueue(QUEUE_PACKETS, QUEUE_BYTES)
        self._pong: bytes | None = None
        self._keep_alive_interval = KEEP_ALIVE_INTERVAL + jitter * KEEP_ALIVE_JITTER
        self._keep_alive_at = now + self._keep_alive_interval

    def throttle(self, n_bytes: int, now: float) -> float:
        """Spends bytes that were read from the client; returns the seconds until more may be read."""
        return self._bucket.spend(n_bytes, now) if self._bucket is not None else 0.0

    @property
    def queued(self) -> tuple[int, int]:
        """Numbers of packets and bytes that wait for the client."""
        queues = (self._disco, self._data)
        return sum(queue.n_packets for queue in queues), sum(queue.n_bytes for queue in queues)

    # Frames for the client

    def push(self, run: bytes, n_packets: int, *, is_disco: bool) -> int:
        """Queues a run of RecvPacket frames; returns how many packets a full queue dropped, the oldest."""
        return (self._disco if is_disco else self._data).push(run, n_packets)

    def push_control(self, frame: bytes) -> None:
        """Queues a frame other than a packet, to be written before packets."""
        self._control.append(frame)

    def push_pong(self, payload: bytes) -> bool:
        """Queues the answer to a Ping. Returns False, with no effect, if one waits already."""
        if self._pong is not None:
            return False
        self._pong = payload
        return True

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
        for queue in (self._disco, self._data):
            before = queue.n_packets
            taken = queue.take(WRITE_SIZE)
            self.packets_out += before - queue.n_packets
            self.bytes_out += sum(map(len, taken))
            pieces += taken
        return b"".join(pieces) if pieces else None

    def poll_timeout(self) -> Deadline:
        """Returns when the next KeepAlive is due; other traffic does not delay it."""
        return Deadline(self._keep_alive_at, "KEEP_ALIVE")

    def handle_timeout(self, now: float) -> None:
        """Queues a KeepAlive if it is due at ``now``."""
        if now >= self._keep_alive_at:
            self._keep_alive_at = now + self._keep_alive_interval
            self._control.append(encode_frame(FrameType.KEEP_ALIVE))
