"""What messages of the API have in common: bounds, errors, pages of a list, and encoding as JSON."""

from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec

from coderd.model import limits
from coderd.model.errors import MalformedPacket

PREFIX = "/api/v1"
MAX_BODY: Final = limits.MAX_API_BODY
"""Bytes of a request's body."""
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer that a client is ready to read."""
MAX_PAGE: Final = limits.MAX_API_PAGE
MAX_LIST: Final = limits.MAX_API_LIST
NameText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Lifetime: TypeAlias = Annotated[float, msgspec.Meta(ge=1, le=316_224_000)]
"""Seconds, ten years at most."""


class ApiMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the API: the body of a request or of an answer, or a query."""


class ErrorBody(ApiMessage, frozen=True):
    """A refusal: a code for programs, a sentence for people, and a hint."""

    code: str
    """A short word for programs."""
    message: str
    """One sentence for people."""
    hint: str = ""
    """What to do next."""


class Nothing(ApiMessage, frozen=True):
    """Empty answer."""


class PageQuery(ApiMessage, frozen=True):
    """Selection of a page of a list."""

    after: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """The ``next`` of the page before; empty for the first."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIST)] | None = None
    """Most entries of the page, which may have fewer and still not be the last; null: all in one answer."""


class ListQuery(PageQuery, frozen=True):
    """Selection of a page of a list: of the caller's things, or of everyone's."""

    all: bool = False
    """Whether to list everyone's; for admins and owners."""


class ListPage(ApiMessage, frozen=True, kw_only=True):
    """A page of a list."""

    next: str | None = None
    """The ``after`` of the next page; null on the last."""


M = TypeVar("M", bound=ApiMessage)
_encoder = msgspec.json.Encoder()


def encode_message(message: ApiMessage) -> bytes:
    """Encodes any message as JSON."""
    return _encoder.encode(message)


def parse_message(kind: type[M], data: bytes) -> M:
    """Reads one message. Raises MalformedPacket with a sentence that names the field."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedPacket(str(error)) from None


def parse_query(kind: type[M], values: dict[str, str]) -> M:
    """Reads a query string's values. Raises MalformedPacket with a sentence that names the field."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise MalformedPacket(str(error)) from None
