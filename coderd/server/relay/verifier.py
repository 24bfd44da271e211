"""Client for ``/derp/verify``: asks a coordination server whether a relay's client belongs to it.

Fails closed: any answer but a clear yes refuses the client. The request is that of Tailscale's relays
(``--verify-client-url``), so any server that answers those can be asked.
"""

from typing import Final

import httpx
import msgspec
import structlog
import trio

from coderd.metrics import Counters
from coderd.model.keys import NodePublic
from coderd.server.relay.verify import Answer, Question

TIMEOUT: Final = 5.0
"""Seconds for one request and its answer."""
MAX_ANSWER: Final = 4096
"""Bytes that an answer may have."""
MAX_CONNECTIONS: Final = 16
"""Connections to the server at a time."""

log = structlog.get_logger(__name__)


class Verifier:
    """Client that asks one URL whether node keys may relay.

    Args:
        url: the URL to ask.
        counters: ``derp.verify.allowed``, ``derp.verify.refused``, ``derp.verify.failed``.
    """

    def __init__(self, url: str, counters: Counters) -> None:
        self._url = url
        self._counters = counters
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS)
        self._client = httpx.AsyncClient(timeout=TIMEOUT, limits=limits, follow_redirects=False)

    async def admit(self, key: NodePublic, source: str) -> NodePublic | None:
        """Returns the key if its owner may relay, else None.

        Args:
            key: proven by the client.
            source: the client's IP address, as the relay sees it.
        """
        try:
            with trio.fail_after(TIMEOUT):
                is_allowed = await self._ask(Question(key.text, source))
        except (trio.TooSlowError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            self._counters["derp.verify.failed"] += 1
            log.warning("verify_failed", reason=f"{type(error).__name__}: {error}"[:200])
            return None
        self._counters["derp.verify.allowed" if is_allowed else "derp.verify.refused"] += 1
        return key if is_allowed else None

    async def aclose(self) -> None:
        """Closes the connections to the server."""
        await self._client.aclose()

    async def _ask(self, question: Question) -> bool:
        """Asks the server. Raises httpx.HTTPError or ValueError on anything but a valid answer."""
        async with self._client.stream("POST", self._url, content=msgspec.json.encode(question)) as response:
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"it answers {response.status_code}")
            answer = b""
            async for piece in response.aiter_bytes():
                answer = (answer + piece)[: MAX_ANSWER + 1]  # read on: httpx cannot be left halfway
        if len(answer) > MAX_ANSWER:
            raise ValueError("its answer is too long")
        return msgspec.json.decode(answer, type=Answer).Allow


async def admit_anybody(key: NodePublic, source: str) -> NodePublic:
    """Returns the key: admits every client, for a relay that asks no server."""
    return key
