"""Reads a request's whole body within a limit of bytes and a timeout."""

from contextlib import aclosing
from typing import Final

import trio
from starlette.requests import Request

from coderd.model import limits

MAX_PIECES: Final = limits.MAX_BODY_PIECES
"""Most pieces of a body: each costs as much time however small it is."""


class BodyTooLarge(Exception):
    """The error of a body with more bytes or pieces than its reader accepts."""


async def read_body(request: Request, *, limit: int, timeout: float) -> bytes:
    """Reads a request's whole body and returns it.

    Args:
        request: a request with an unread body.
        limit: most bytes.
        timeout: seconds for the whole body.

    Raises:
        BodyTooLarge: the body is longer than the limit, or comes in more than ``MAX_PIECES`` pieces.
        trio.TooSlowError: the body has not ended in time.
        starlette.requests.ClientDisconnect: the client left before the body's end.
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
