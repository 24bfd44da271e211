"""Asks a coordination server whose key a relay's client has shown. Fails closed: no clear yes means no.

The question is that of Tailscale's relays, so any server that answers those will do; ours answers at ``/derp/verify``.
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
"""Seconds for all of it."""
MAX_ANSWER: Final = 4096
MAX_CONNECTIONS: Final = 16

log = structlog.get_logger(__name__)


class Verifier:
    """Asks one URL about keys.

    Args:
        url: where.
        counters: ``derp.verify.allowed``, ``derp.verify.refused``, ``derp.verify.failed``.
    """

    def __init__(self, url: str, counters: Counters) -> None:
        self._url = url
        self._counters = counters
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS)
        self._client = httpx.AsyncClient(timeout=TIMEOUT, limits=limits, follow_redirects=False)

    async def admit(self, key: NodePublic, source: str) -> NodePublic | None:
        """The key itself if its owner may relay, else None.

        Args:
            key: proved by the client.
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
        """Closes its connections."""
        await self._client.aclose()

    async def _ask(self, question: Question) -> bool:
        """Raises httpx.HTTPError, ValueError on anything that is no answer."""
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
    """Instead of a verifier, where the relay serves everybody."""
    return key
