"""Dialling: why it failed, in words that a person may read."""

import errno

import pytest
import trio

from coderd.http.dialer import dial


async def free_port() -> int:
    """A port of loopback at which nobody listens."""
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_refusal_is_told_in_the_kernels_words_alone(host: str) -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        await dial(host, await free_port())
    assert caught.value.errno == errno.ECONNREFUSED
    assert caught.value.strerror == "Connection refused"
