"""Dialling: why it failed, in words that a person may read."""

import errno
import ssl

import pytest
import trio
import trio.testing

from coderd.http.dialer import dial, start_tls


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


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "\u00e9" * 80])
async def test_a_name_that_is_none_is_a_failure_like_any_other(host: str) -> None:
    with pytest.raises(OSError, match="not a valid host name"):
        await dial(host, 1)


@pytest.mark.parametrize("name", ["", ".h", "a..b", "a\0b"])
async def test_nor_is_tls_with_one_more_than_a_failure(name: str) -> None:
    ours, _ = trio.testing.memory_stream_pair()
    with pytest.raises(OSError, match="not a valid host name"):
        await start_tls(ours, ssl.create_default_context(), name)
