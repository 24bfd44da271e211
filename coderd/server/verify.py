"""Whether a node key belongs to this team, for relays elsewhere: the question that Tailscale's relays ask by ``--verify-client-url``.

    POST /derp/verify   {"NodePublic": "nodekey:<64 hex>", "Source": "<ip>"}   ->   {"Allow": true}

Nobody has to say who he is: a key of 256 bits cannot be guessed, and who knows one already learns no more than that its owner
may relay here. So many questions are answered in a second; a relay that gets another answer turns its client away.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import msgspec
import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from coderd.derp.limit import TokenBucket
from coderd.http.body import BodyTooLarge, read_body
from coderd.metrics import Counters
from coderd.model import limits
from coderd.model.keys import NodePublic

PATH: Final = "/derp/verify"
MAX_QUESTION: Final = limits.MAX_VERIFY_QUESTION
QUESTION_TIMEOUT: Final = limits.VERIFY_QUESTION_TIMEOUT
RATE: Final = limits.VERIFY_RATE
BURST: Final = limits.VERIFY_BURST
"""Questions answered per second in the long run, and at once: everybody comes back to a relay that restarts."""


class Question(msgspec.Struct, frozen=True):
    """Which key, and from where its owner came to the relay. Field names are Tailscale's."""

    NodePublic: str
    Source: str = ""


class Answer(msgspec.Struct, frozen=True):
    """Yes or no."""

    Allow: bool


def verify_routes(
    admit: Callable[[NodePublic], Awaitable[object | None]], counters: Counters
) -> list[BaseRoute]:
    """The route, answered by ``admit``: whose key it is, None for nobody's."""
    return [Route(PATH, _Verifier(admit, counters).answer, methods=["POST"])]


class _Verifier:
    def __init__(self, admit: Callable[[NodePublic], Awaitable[object | None]], counters: Counters) -> None:
        self._admit = admit
        self._counters = counters
        self._bucket: TokenBucket | None = None

    async def answer(self, request: Request) -> Response:
        now = trio.current_time()
        if self._bucket is None:
            self._bucket = TokenBucket(RATE, BURST, now)
        if not self._bucket.take(1.0, now):
            self._counters["derp.verify.too_many"] += 1
            return Response(status_code=HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": "1"})
        key = parse_question(await _body(request))
        if key is None:
            self._counters["derp.verify.malformed"] += 1
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        is_known = await self._admit(key) is not None
        self._counters["derp.verify.allowed" if is_known else "derp.verify.refused"] += 1
        return Response(msgspec.json.encode(Answer(is_known)), media_type="application/json")


def parse_question(data: bytes) -> NodePublic | None:
    """The key that is asked about, None for anything else."""
    try:
        return NodePublic.parse(msgspec.json.decode(data, type=Question).NodePublic)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


async def _body(request: Request) -> bytes:
    """The body if it is short and comes in time, else nothing."""
    try:
        return await read_body(request, limit=MAX_QUESTION, timeout=QUESTION_TIMEOUT)
    except (BodyTooLarge, trio.TooSlowError, ClientDisconnect):
        return b""
