"""Bytes between two connected streams, both ways."""

import trio

CHUNK = 1 << 18
"""Bytes that are read at once."""


async def splice(one: trio.SocketStream, other: trio.SocketStream, from_one: bytes = b"") -> None:
    """Copies both ways until both directions have ended; a broken stream ends both.

    Args:
        one: a connected stream.
        other: another one.
        from_one: bytes already read from ``one``, to be sent first.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_copy, other, one, b"", nursery.cancel_scope)
        nursery.start_soon(_copy, one, other, from_one, nursery.cancel_scope)


async def _copy(
    source: trio.SocketStream, target: trio.SocketStream, first: bytes, both: trio.CancelScope
) -> None:
    try:
        if first:
            await target.send_all(first)
        while chunk := await source.receive_some(CHUNK):
            await target.send_all(chunk)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        both.cancel()
