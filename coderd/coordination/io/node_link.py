"""One admitted node's WebSocket: what wakes its sender, what it may still say, and messages in and out."""

from contextlib import suppress
from typing import Final

import trio

from coderd.coordination.message import Alive, Message, NodeMessage, encode_message, parse_node_message
from coderd.coordination.viewer import Viewer
from coderd.http.websocket import TextSocket
from coderd.model import limits
from coderd.model.token_bucket import TokenBucket

WRITE_TIMEOUT: Final = limits.COORDINATION_WRITE_TIMEOUT
"""Seconds that one message may take to leave: a slower node is dropped, and learns all anew when it
returns."""
CLOSE_TIMEOUT: Final = limits.COORDINATION_CLOSE_TIMEOUT

MESSAGE_RATE: Final = limits.NODE_MESSAGE_RATE
MESSAGE_BURST: Final = limits.NODE_MESSAGE_BURST
"""Messages per second that a node may send in the long run, and at once."""

ALIVE = encode_message(Alive())


class Bell:
    """Wakes one waiter, also when it was rung before the wait."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Ends the wait that is under way, or else the next one at once."""
        self._event.set()

    async def wait(self, until: float | None) -> None:
        """Waits to be rung, until a time of trio's clock at most; for ever where that is None."""
        if until is None:
            await self._event.wait()
        else:
            with trio.move_on_at(until):
                await self._event.wait()
        self._event = trio.Event()


class NodeLink:
    """Link of an admitted node, as the keepalive monitor watches it.

    Args:
        websocket: the connection.
        viewer: what the node is owed.
        bell: rung when there may be something to send.
    """

    def __init__(self, websocket: TextSocket, viewer: Viewer, bell: Bell) -> None:
        self.websocket = websocket
        self.viewer = viewer
        self.bell = bell
        self.scope = trio.CancelScope()
        """Cancelled when the link is given up."""
        self.heard_at = self.said_at = trio.current_time()
        self.allowance = TokenBucket(MESSAGE_RATE, MESSAGE_BURST)
        """Messages that the node may still send. One that asks for a confirmation gives one token back: a
        device that may meet thousands of workspaces hears of each of them when they all come back."""
        self.is_alive_owed = False
        """Whether the sender has to send ``alive``, since it could not be sent at once."""
        self.is_silent = False
        """Whether the link was given up, since nothing was received for too long."""

    def say_alive(self, now: float) -> None:
        """Sends ``alive`` at once, as nearly always works, or else has the sender do so."""
        if not self.websocket.send_text_nowait(ALIVE):
            self.is_alive_owed = True
            self.bell.ring()

    def give_up(self) -> None:
        """Ends the link, since nothing was received for too long."""
        self.is_silent = True
        self.scope.cancel()

    async def send(self, message: Message) -> None:
        """Sends a message, and notes when it left.

        Raises:
            trio.TooSlowError: it could not leave within ``WRITE_TIMEOUT`` seconds.
        """
        await send(self.websocket, message)
        self.said_at = trio.current_time()

    async def receive(self) -> NodeMessage:
        """Returns the node's next message, and notes when it came. Raises MalformedPacket."""
        message = await receive(self.websocket)
        self.heard_at = trio.current_time()
        return message


async def send(websocket: TextSocket, message: Message) -> None:
    """Sends a message; waits only where the connection is behind.

    Raises:
        trio.TooSlowError: it could not leave within ``WRITE_TIMEOUT`` seconds.
    """
    text = encode_message(message)
    if not websocket.send_text_nowait(text):
        with trio.fail_after(WRITE_TIMEOUT):
            await websocket.send_text(text)
    elif websocket.is_behind:
        with trio.fail_after(WRITE_TIMEOUT):
            await websocket.flush()


async def receive(websocket: TextSocket) -> NodeMessage:
    """Returns a node's next message. Raises MalformedPacket."""
    return parse_node_message(await websocket.receive_text())


async def finish(websocket: TextSocket, message: Message) -> None:
    """Sends the last message and closes, as far as the other end still listens."""
    with (
        trio.move_on_after(CLOSE_TIMEOUT),
        suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        await websocket.send_text(encode_message(message))
        await websocket.send_close()
