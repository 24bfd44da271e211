"""The first line of a byte stream, read without a byte of what follows it. Pure."""

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket
from coderd.peerapi.message import MAX_LINE


class LineReader:
    """Bounded reader of the one line that opens a stream; bytes behind its newline are left to the caller.

    Args:
        limit: bytes of the line at most, its newline included.

    Attributes:
        line: the line without its newline; None until it is whole.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self.line: bytes | None = None
        self._limit = limit
        self._begun = bytearray()

    @property
    def n_missing(self) -> int:
        """Returns how many bytes the line may still have, so how many are worth reading ahead."""
        return self._limit - len(self._begun) if self.line is None else 0

    def take(self, data: Buffer) -> int:
        """Takes the line's bytes from the front of received data; empty data is the stream's end.

        Returns:
            How many bytes were taken, the newline among them; 0 once the line is whole.

        Raises:
            MalformedPacket: the line is longer than the limit, or the stream ends before it does.
        """
        if self.line is not None:
            return 0
        if not data:
            raise MalformedPacket("the stream ended before its first line did")
        ahead = bytes(data[: self.n_missing])
        n_taken = ahead.find(b"\n") + 1 or len(ahead)
        self._begun += ahead[:n_taken]
        if self._begun.endswith(b"\n"):
            self.line = bytes(self._begun[:-1])
        elif not self.n_missing:
            raise MalformedPacket(f"the first line has no end within {self._limit} bytes")
        return n_taken
