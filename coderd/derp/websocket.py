"""DERP's byte stream in WebSocket messages (RFC 6455), after the handshake. Pure but for the masks.

Messages are binary and their ends have no meaning: one may hold part of a frame or several. The bytes of a
message are passed on as they come, so a length that a peer announces costs no memory. Of control frames, at
most one pong and one close wait to be written.
"""

from itertools import islice
from typing import Final, TypeAlias, assert_never

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from coderd.model import Buffer, limits

MAX_MESSAGE: Final = 32 * 1024
"""Most bytes of one message that is written; Tailscale's relay refuses longer ones."""
MAX_FRAMES: Final = limits.MAX_DERP_WEBSOCKET_FRAMES
"""Most WebSocket frames that one ``poll_data`` handles, as each costs time however small it is."""

_FrameEvent: TypeAlias = TextMessage | BytesMessage | Ping | Pong | CloseConnection
"""Events of an open WebSocket."""


class WebSocket:
    """One end of a WebSocket that carries a byte stream.

    Args:
        is_client: whether this is the client's end, which masks its frames (RFC 6455 §5.3).

    Attributes:
        is_ended: whether either end has closed, or the peer has violated the protocol.
    """

    def __init__(self, *, is_client: bool) -> None:
        self._wire = Connection(ConnectionType.CLIENT if is_client else ConnectionType.SERVER)
        self._pong = b""
        self._close = b""
        self.is_ended = False

    # What happened

    def handle_data(self, data: Buffer) -> None:
        """Adds received bytes, cut anywhere, for ``poll_data``."""
        if not self.is_ended:
            self._wire.receive_data(bytes(data))

    def poll_data(self) -> bytes | None:
        """Handles received frames, MAX_FRAMES at most, and returns their bytes of the stream.

        Empty where only control frames had come; None if no frame waits, or the WebSocket has ended.
        """
        if self.is_ended:
            return None
        # Each event is handled before wsproto makes the next: its state is that of the last event.
        taken = [self._take(event) for event in islice(self._wire.events(), MAX_FRAMES)]
        return b"".join(taken) if taken else None

    def _take(self, event: Event) -> bytes:
        """Returns a message's bytes; answers a ping; ends the WebSocket on a close or a text."""
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
        except LocalProtocolError:  # this end has sent a close before
            self._close = b""

    # Commands

    def close(self) -> None:
        """Ends the WebSocket with a close frame, to be written by ``poll_control``."""
        if not self.is_ended:
            self._end(CloseConnection(CloseReason.NORMAL_CLOSURE))

    def encode(self, data: Buffer) -> bytes:
        """Encodes bytes of the stream as messages of ``MAX_MESSAGE`` bytes at most; empty after the end."""
        if self.is_ended:
            return b""
        view = memoryview(data)
        return b"".join(
            self._wire.send(BytesMessage(bytes(view[at : at + MAX_MESSAGE])))
            for at in range(0, len(view), MAX_MESSAGE)
        )

    def poll_control(self) -> bytes:
        """Removes and returns the control frames that wait to be written, empty if there are none."""
        waiting, self._pong, self._close = self._pong + self._close, b"", b""
        return waiting
