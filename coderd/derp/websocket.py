"""DERP's byte stream inside WebSocket messages (RFC 6455), from the end of the handshake on. Pure but for the masks.

Messages are binary and their ends mean nothing: one may hold part of a frame or several. Nothing is gathered here, so no
length that a peer announces costs memory: what has come of a message is handed on at once. Of control frames at most one
pong and one close wait to be written.
"""

from itertools import islice
from typing import Final, TypeAlias, assert_never

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from coderd.model import Buffer, limits

MAX_MESSAGE: Final = 32 * 1024
"""Bytes of one message that is written; Tailscale's relay takes no longer ones."""
MAX_FRAMES: Final = limits.MAX_DERP_WEBSOCKET_FRAMES
"""How many WebSocket frames one ``poll_data`` works off: tiny ones cost much more than their bytes."""

_FrameEvent: TypeAlias = TextMessage | BytesMessage | Ping | Pong | CloseConnection
"""All that a connection has once it is open."""


class WebSocket:
    """One end of a WebSocket that carries bytes.

    Args:
        is_client: clients mask what they write.

    Attributes:
        is_ended: nothing more will come: the peer closed, or broke the protocol.
    """

    def __init__(self, *, is_client: bool) -> None:
        self._wire = Connection(ConnectionType.CLIENT if is_client else ConnectionType.SERVER)
        self._pong = b""
        self._close = b""
        self.is_ended = False

    # What happened

    def handle_data(self, data: Buffer) -> None:
        """Takes what arrived, cut anywhere; ``poll_data`` then has it."""
        if not self.is_ended:
            self._wire.receive_data(bytes(data))

    def poll_data(self) -> bytes | None:
        """Bytes of the stream; empty where only control frames had come; None when no whole frame waits."""
        if self.is_ended:
            return None
        # Each event is taken before the next is made: the wire's state is that of the last one.
        taken = [self._take(event) for event in islice(self._wire.events(), MAX_FRAMES)]
        return b"".join(taken) if taken else None

    def _take(self, event: Event) -> bytes:
        """Bytes of a message; anything else is answered or ends the connection."""
        if self.is_ended:
            return b""
        assert isinstance(event, _FrameEvent)
        match event:
            case BytesMessage():
                return bytes(event.data)
            case Ping():
                self._pong = self._wire.send(event.response())
            case TextMessage():
                self._end(CloseConnection(CloseReason.UNSUPPORTED_DATA))
            case CloseConnection():
                self._end(event.response())
            case Pong():
                pass
            case _:
                assert_never(event)
        return b""

    def _end(self, close: CloseConnection) -> None:
        self.is_ended = True
        try:
            self._close = self._wire.send(close)
        except LocalProtocolError:  # the last word was ours
            self._close = b""

    # Commands

    def close(self) -> None:
        """Says that the connection ends here."""
        if not self.is_ended:
            self._end(CloseConnection(CloseReason.NORMAL_CLOSURE))

    def encode(self, data: Buffer) -> bytes:
        """Bytes of the stream as messages, ready to be written; nothing once the connection has ended."""
        if self.is_ended:
            return b""
        view = memoryview(data)
        return b"".join(
            self._wire.send(BytesMessage(bytes(view[at : at + MAX_MESSAGE])))
            for at in range(0, len(view), MAX_MESSAGE)
        )

    def poll_control(self) -> bytes:
        """Control frames that have to be written, empty where none has."""
        waiting, self._pong, self._close = self._pong + self._close, b"", b""
        return waiting
