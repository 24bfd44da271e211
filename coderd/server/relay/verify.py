"""Whether a node key belongs to this team, for relays elsewhere: the question that Tailscale's relays ask by ``--verify-client-url``.

    POST /derp/verify   {"NodePublic": "nodekey:<64 hex>", "Source": "<ip>"}   ->   {"Allow": true}

Nobody has to say who he is: a key of 256 bits cannot be guessed, and who knows one already learns no more than that its owner
may relay here. So many questions are answered in a second; a relay that gets another answer turns its client away. So nobody may use
up the questions of others: each address has a share that only answers of no use up, and relays that have asked for a node of ours have one
beside everybody's.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import msgspec
import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from coderd.api.io.routes import source_of
from coderd.http.body import BodyTooLarge, read_body
from coderd.metrics import Counters
from coderd.model import limits
from coderd.model.keys import NodePublic
from coderd.model.origins import Origin, OriginBuckets
from coderd.model.token_bucket import Rate

PATH: Final = "/derp/verify"
MAX_QUESTION: Final = limits.MAX_VERIFY_QUESTION
QUESTION_TIMEOUT: Final = limits.VERIFY_QUESTION_TIMEOUT
ALL: Final = Rate(limits.VERIFY_BURST, limits.VERIFY_RATE)
"""Questions that are answered, of everybody together: everybody comes back to a relay that restarts."""
OF_KNOWN: Final = Rate(limits.VERIFY_KNOWN_BURST, limits.VERIFY_KNOWN_RATE)
OF_SOURCE: Final = Rate(limits.VERIFY_SOURCE_BURST, limits.VERIFY_SOURCE_RATE)
OF_SITE: Final = Rate(limits.VERIFY_SITE_BURST, limits.VERIFY_SITE_RATE)
MAX_SOURCES: Final = limits.MAX_VERIFY_SOURCES


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


class Askers:
    """Who may ask one more. Pure."""

    def __init__(self) -> None:
        self._everybody = ALL.full_bucket()
        self._of_known = OF_KNOWN.full_bucket()
        self._origins = OriginBuckets(OF_SOURCE, OF_SITE, MAX_SOURCES)
        self._known: OrderedDict[str, None] = OrderedDict()

    def take(self, origin: Origin, now: float) -> bool:
        """Whether somebody from there gets an answer."""
        if not self._origins.allows(origin, now):
            return False
        is_known = origin.network in self._known
        if not self._everybody.take(1, now) and not (is_known and self._of_known.take(1, now)):
            return False
        self._origins.take(origin, now)
        return True

    def note_yes(self, origin: Origin, now: float) -> None:
        """The answer was yes: it was a relay that asked, and that is not counted against it."""
        self._origins.give(origin, now)
        self._known.pop(origin.network, None)
        self._known[origin.network] = None
        if len(self._known) > MAX_SOURCES:
            self._known.popitem(last=False)


class _Verifier:
    def __init__(self, admit: Callable[[NodePublic], Awaitable[object | None]], counters: Counters) -> None:
        self._admit = admit
        self._counters = counters
        self._askers = Askers()

    async def answer(self, request: Request) -> Response:
        origin, now = Origin.of(source_of(request)), trio.current_time()
        if not self._askers.take(origin, now):
            self._counters["derp.verify.too_many"] += 1
            return Response(status_code=HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": "1"})
        key = parse_question(await _body(request))
        if key is None:
            self._counters["derp.verify.malformed"] += 1
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        is_known = await self._admit(key) is not None
        if is_known:
            self._askers.note_yes(origin, trio.current_time())
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
