"""Frames of a WebSocket (RFC 6455) on wsproto, one at a time, and the messages gathered from them. Pure."""

from io import BytesIO, StringIO
from typing import Final, TypeAlias

from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from coderd.model.errors import MalformedPacket

FrameEvent: TypeAlias = TextMessage | BytesMessage | Ping | Pong | CloseConnection
"""Events of an open WebSocket; wsproto reports a violation of the protocol as a CloseConnection, too."""
FRAME_COST: Final = 14
"""Bytes added to a message's size for each frame before its last: the longest header (RFC 6455 §5.2).

They bound the number of empty frames.
"""


class MessageTooBig(MalformedPacket):
    """The error of a message that is longer than its limit, the cost of its frames included."""


def next_frame(wire: Connection) -> FrameEvent | None:
    """Returns the next received frame, or as much of a long one as has come; None if there is none."""
    event = next(wire.events(), None)
    assert event is None or isinstance(event, FrameEvent)
    return event


class Gathering:
    """The message that is being received, gathered from its frames.

    Args:
        limit: most bytes of a binary message or characters of a text, with ``FRAME_COST`` for each frame but
            the last.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: StringIO | BytesIO | None = None
        self._size = 0

    def add(self, event: TextMessage | BytesMessage) -> str | bytes | None:
        """Adds a frame's data; returns the message if the frame ends it, else None. Raises MessageTooBig."""
        if isinstance(event, TextMessage):
            parts = self._parts if isinstance(self._parts, StringIO) else StringIO()
            self._size += parts.write(event.data)
            self._parts = parts
        else:
            pieces = self._parts if isinstance(self._parts, BytesIO) else BytesIO()
            self._size += pieces.write(event.data)
            self._parts = pieces
        if event.frame_finished and not event.message_finished:
            self._size += FRAME_COST
        if self._size > self._limit:
            raise MessageTooBig(
                f"a message of more than {self._limit} bytes or characters, its frames counted"
            )
        if not event.message_finished:
            return None
        message, self._parts, self._size = self._parts.getvalue(), None, 0
        return message
