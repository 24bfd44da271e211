"""Answers to relays that ask whether a node key belongs to this server.

The request is that of Tailscale's relays (``--verify-client-url``).

    POST /derp/verify   {"NodePublic": "nodekey:<64 hex>", "Source": "<ip>"}   ->   {"Allow": true}

Unauthenticated: a key of 256 bits cannot be guessed, and a client that knows one learns only that its owner
may relay. Answers per second are limited, because a relay that gets no answer turns its client away. To keep
one client from using up that limit, each address has a share that only questions about unknown keys use up,
and addresses that have asked about a known key have a reserve beside the common limit.
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
"""Bytes that a question may have."""
QUESTION_TIMEOUT: Final = limits.VERIFY_QUESTION_TIMEOUT
"""Seconds within which a question must arrive."""
ALL: Final = Rate(limits.VERIFY_BURST, limits.VERIFY_RATE)
"""Limit of answered questions over all addresses; a relay that restarts asks about all its clients."""
OF_KNOWN: Final = Rate(limits.VERIFY_KNOWN_BURST, limits.VERIFY_KNOWN_RATE)
"""Reserve beyond ``ALL`` for addresses that have asked about a known key."""
OF_SOURCE: Final = Rate(limits.VERIFY_SOURCE_BURST, limits.VERIFY_SOURCE_RATE)
"""Limit of one address for questions about unknown keys."""
OF_SITE: Final = Rate(limits.VERIFY_SITE_BURST, limits.VERIFY_SITE_RATE)
"""Limit of one site (``Origin``) for questions about unknown keys."""
MAX_SOURCES: Final = limits.MAX_VERIFY_SOURCES
"""Addresses that are remembered at a time."""


class Question(msgspec.Struct, frozen=True):
    """Question whether a key may relay, with its client's address. Field names are Tailscale's."""

    NodePublic: str
    Source: str = ""


class Answer(msgspec.Struct, frozen=True):
    """Answer whether the key may relay. The field name is Tailscale's."""

    Allow: bool


def verify_routes(
    admit: Callable[[NodePublic], Awaitable[object | None]], counters: Counters
) -> list[BaseRoute]:
    """Returns the route; ``admit`` returns the owner of a key, None for an unknown key."""
    return [Route(PATH, _Verifier(admit, counters).answer, methods=["POST"])]


class Askers:
    """Rate limits of the addresses that ask. Pure."""

    def __init__(self) -> None:
        self._everybody = ALL.full_bucket()
        self._of_known = OF_KNOWN.full_bucket()
        self._origins = OriginBuckets(OF_SOURCE, OF_SITE, MAX_SOURCES)
        self._known: OrderedDict[str, None] = OrderedDict()

    def take(self, origin: Origin, now: float) -> bool:
        """Takes one question from the limits; returns whether it may be answered."""
        if not self._origins.allows(origin, now):
            return False
        is_known = origin.network in self._known
        if not self._everybody.take(1, now) and not (is_known and self._of_known.take(1, now)):
            return False
        self._origins.take(origin, now)
        return True

    def note_yes(self, origin: Origin, now: float) -> None:
        """Notes that an address asked about a known key: refunds the question, remembers it as a relay."""
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
    """Returns the key that a question is about; None for anything but a valid question."""
    try:
        return NodePublic.parse(msgspec.json.decode(data, type=Question).NodePublic)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


async def _body(request: Request) -> bytes:
    """Returns the body; empty if it is longer than ``MAX_QUESTION`` or later than ``QUESTION_TIMEOUT``."""
    try:
        return await read_body(request, limit=MAX_QUESTION, timeout=QUESTION_TIMEOUT)
    except (BodyTooLarge, trio.TooSlowError, ClientDisconnect):
        return b""
