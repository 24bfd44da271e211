"""Queue of the packets that wait for one connection.

Packets come as *runs*: encoded frames of one sender and receiver, joined. A run is stored and sent whole,
without a cost per packet; its frames are parsed only to drop some. The oldest packets are dropped first, as a
tunnel has more use for a fresh packet than for a stale one.
"""

from collections import deque

from coderd.derp.frame import HEADER, HEADER_SIZE
from coderd.model import Buffer


class PacketQueue:
    """A bounded queue of runs of frames that drops at its head.

    Args:
        max_packets: most packets that wait.
        max_bytes: most bytes of frames that wait.

    Attributes:
        n_packets: packets that wait.
        n_bytes: bytes of their frames.
    """

    __slots__ = ("_max_bytes", "_max_packets", "_runs", "n_bytes", "n_packets")

    def __init__(self, max_packets: int, max_bytes: int) -> None:
        self._max_packets = max_packets
        self._max_bytes = max_bytes
        self._runs: deque[tuple[Buffer, int]] = deque()
        self.n_packets = 0
        self.n_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._runs)

    def push(self, run: bytes, n_packets: int) -> int:
        """Appends a run of ``n_packets`` frames and drops the oldest packets that no longer fit.

        Returns: how many packets were dropped, those of the new run included.
        """
        self._runs.append((run, n_packets))
        self.n_packets += n_packets
        self.n_bytes += len(run)
        if self.n_packets <= self._max_packets and self.n_bytes <= self._max_bytes:
            return 0
        before = self.n_packets
        while self.n_packets > self._max_packets or self.n_bytes > self._max_bytes:
            self._drop_head()
        return before - self.n_packets

    def take(self, max_bytes: int) -> list[Buffer]:
        """Removes runs from the head, at least one if there is any, until ``max_bytes`` are reached."""
        taken: list[Buffer] = []
        size = 0
        while self._runs and size < max_bytes:
            run, n_packets = self._runs.popleft()
            taken.append(run)
            size += len(run)
            self.n_packets -= n_packets
        self.n_bytes -= size
        return taken

    def clear(self) -> int:
        """Empties the queue and returns how many packets were in it."""
        dropped = self.n_packets
        self._runs.clear()
        self.n_packets = self.n_bytes = 0
        return dropped

    def _drop_head(self) -> None:
        """Drops packets from the start of the first run until the queue fits, or the run is empty."""
        run, n_packets = self._runs.popleft()
        dropped = cut = 0
        while dropped < n_packets and (
            self.n_packets - dropped > self._max_packets or self.n_bytes - cut > self._max_bytes
        ):
            cut += HEADER_SIZE + HEADER.unpack_from(run, cut)[1]
            dropped += 1
        self.n_packets -= dropped
        self.n_bytes -= cut
        if dropped < n_packets:
            self._runs.appendleft((memoryview(run)[cut:], n_packets - dropped))
