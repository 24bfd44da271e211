"""A request's body, read whole: no more than so many bytes, in no more than so many seconds."""

from contextlib import aclosing
from typing import Final

import trio
from starlette.requests import Request

from coderd.model import limits

MAX_PIECES: Final = limits.MAX_BODY_PIECES
"""Each costs the same however small it is."""


class BodyTooLarge(Exception):
    """More than the reader is ready to take."""


async def read_body(request: Request, *, limit: int, timeout: float) -> bytes:
    """The body.

    Args:
        request: whose; its body has not been read.
        limit: bytes.
        timeout: seconds for all of it.

    Raises:
        BodyTooLarge: it goes on beyond the limit, or comes in too many pieces.
        trio.TooSlowError: it has not ended in time.
        starlette.requests.ClientDisconnect: the client left before its end.
    """
    body = bytearray()
    n_pieces = 0
    with trio.fail_after(timeout):
        async with aclosing(request.stream()) as pieces:
            async for piece in pieces:
                body += piece
                n_pieces += 1
                if len(body) > limit or n_pieces > MAX_PIECES:
                    raise BodyTooLarge
    return bytes(body)
