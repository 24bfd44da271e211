"""What messages of several methods have in common: bounds of fields, progress, and the end of a request."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

PeerName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Port: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096)]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all messages of the control socket."""


class Progress(Message, frozen=True, kw_only=True):
    """Step of a long request, as a sentence for the user."""

    text: str


class Done(Message, frozen=True, kw_only=True):
    """Empty result of a request."""
