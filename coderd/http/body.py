"""A request's body, read whole: no more than so many bytes, in no more than so many seconds."""

from contextlib import aclosing

import trio
from starlette.requests import Request


class BodyTooLarge(Exception):
    """More than the reader is ready to take."""


async def read_body(request: Request, *, limit: int, timeout: float) -> bytes:
    """The body.

    Args:
        request: whose; its body has not been read.
        limit: bytes.
        timeout: seconds for all of it.

    Raises:
        BodyTooLarge: it goes on beyond the limit.
        trio.TooSlowError: it has not ended in time.
        starlette.requests.ClientDisconnect: the client left before its end.
    """
    body = bytearray()
    with trio.fail_after(timeout):
        async with aclosing(request.stream()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > limit:
                    raise BodyTooLarge
    return bytes(body)
