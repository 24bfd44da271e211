r"""Messages between a browser and the server about a terminal, each a binary message of a WebSocket.

Pure.

The first byte is the kind, the rest the body; kinds and bodies are those of ``frames``, and these:

browser to server                                  server to browser
01 open   seen 8, rows 2, columns 2, id 0|32       81 opened  place 8, id 32: this shell's, to come back with
06 seen   place 8: behind the last byte shown      86 path    UTF-8: "direct", or "relay" and a region's name

A browser buffers all that is sent to it, so it acknowledges what it has shown, and at most ``WINDOW`` bytes
are unacknowledged. The id of a shell is its token in the workspace and a MAC over token, user and workspace:
it is invalid for any other user, though to the workspace all browsers are one peer.
"""

import struct
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from coderd.model import limits
from coderd.model.errors import MalformedPacket
from coderd.model.sealed import Seal
from coderd.model.visible import visible
from coderd.terminal import frames
from coderd.terminal.frames import (
    HEADER,
    MAX_BODY,
    TOKEN_SIZE,
    Close,
    FromWorkspace,
    Input,
    Open,
    Opened,
    Ping,
    Refused,
    Resize,
)

WINDOW: Final = limits.TERMINAL_WINDOW
"""Most bytes of output that a browser has not acknowledged."""
MAX_MESSAGE: Final = 1 + MAX_BODY

MAX_SENTENCE: Final = 1024
"""Most characters of a workspace's reason: however many bytes each has, two of these fit into a frame."""

_PLACE: Final = struct.Struct(">Q")
_MAC_SIZE: Final = 16
ID_SIZE: Final = TOKEN_SIZE + _MAC_SIZE
_OPEN, _SEEN, _OPENED, _PATH = 0x01, 0x06, 0x81, 0x86
_OPEN_SIZE: Final = 12


class Seen(NamedTuple):
    """Acknowledgement: the browser has shown the output before ``place``."""

    place: int


class Path(NamedTuple):
    """Notice of the path by which the workspace is reached now."""

    text: str


FromBrowser: TypeAlias = Open | Input | Resize | Ping | Close | Seen


class ShellIds:
    """Converter between tokens and ids of one user's shells in one workspace.

    Args:
        secret: the server's secret.
        user_id: the user who opened the shells.
        workspace_id: the workspace in which they run.
    """

    def __init__(self, secret: bytes, user_id: UUID, workspace_id: UUID) -> None:
        self._seal = Seal(secret, b"coderd terminal")
        self._whose = user_id.bytes + workspace_id.bytes

    def make_id(self, token: bytes) -> bytes:
        """Returns a shell's id, made from its token in the workspace."""
        return token + self._seal.mac(self._whose + token)[:_MAC_SIZE]

    def read_id(self, shell_id: bytes) -> bytes:
        """Returns a shell's token, from its id.

        Raises MalformedPacket on an id that was not made for this user and workspace.
        """
        token, mac = shell_id[:TOKEN_SIZE], shell_id[TOKEN_SIZE:]
        if len(mac) != _MAC_SIZE or not self._seal.is_mac(mac, self._whose + token):
            raise MalformedPacket("an id of no shell of this user's")
        return token


def parse_from_browser(message: bytes, ids: ShellIds) -> FromBrowser:
    """Parses a browser's message. Raises only MalformedPacket."""
    if not 0 < len(message) <= MAX_MESSAGE:
        raise MalformedPacket(f"a message of {len(message)} bytes")
    kind, body = message[0], message[1:]
    if kind == _SEEN:
        if len(body) != _PLACE.size:
            raise MalformedPacket("a place of a wrong length")
        return Seen(*_PLACE.unpack(body))
    if kind == _OPEN and len(body) > _OPEN_SIZE:
        if len(body) != _OPEN_SIZE + ID_SIZE:
            raise MalformedPacket("an id of a wrong length")
        body = body[:_OPEN_SIZE] + ids.read_id(body[_OPEN_SIZE:])
    return frames.parse_from_client(kind, body)


def encode_for_browser(message: FromWorkspace | Path, ids: ShellIds) -> bytes:
    """Returns a message for the browser as one WebSocket message."""
    match message:
        case Path(text):
            return bytes([_PATH]) + text.encode()[:MAX_BODY]
        case Opened(place, token):
            return bytes([_OPENED]) + _PLACE.pack(place) + ids.make_id(token)
        case Refused(code, text):
            message = Refused(visible(code, MAX_SENTENCE), visible(text, MAX_SENTENCE))
    frame = frames.encode(message)
    return frame[:1] + frame[HEADER.size :]
