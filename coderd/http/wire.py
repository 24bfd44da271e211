"""Frames of a WebSocket (RFC 6455) on wsproto, one at a time, and the messages gathered from them. Pure."""

from io import BytesIO, StringIO
from typing import Final, TypeAlias

from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from coderd.model.errors import MalformedPacket

FrameEvent: TypeAlias = TextMessage | BytesMessage | Ping | Pong | CloseConnection
"""All that a connection has once it is open; a broken protocol is a CloseConnection, too."""
FRAME_COST: Final = 14
"""Bytes that a frame of a longer message counts beside its own: the longest header there is (§5.2). So empty ones cost, too."""


class MessageTooBig(MalformedPacket):
    """A message that goes on beyond its limit."""


def next_frame(wire: Connection) -> FrameEvent | None:
    """The next frame, or as much of a long one as has come; None where nothing waits."""
    event = next(wire.events(), None)
    assert event is None or isinstance(event, FrameEvent)
    return event


class Gathering:
    """Makes messages of frames.

    Args:
        limit: bytes of binary messages, and characters of texts, with what their frames cost.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: StringIO | BytesIO | None = None
        self._size = 0

    def add(self, event: TextMessage | BytesMessage) -> str | bytes | None:
        """The message that this frame ends, if it does. Raises MessageTooBig."""
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
