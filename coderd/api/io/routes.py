"""The API's routes: the table of ``rules`` as Starlette's.

No handler is called before its rule has admitted the caller.

A handler gets a call that its caller may make, with the request parsed; it raises ``ApiError`` to refuse.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

import structlog
import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ExceptionHandler

from coderd.api.messages import (
    MAX_BODY,
    PREFIX,
    ApiMessage,
    ErrorBody,
    encode_message,
    parse_message,
    parse_query,
)
from coderd.api.rules import RULES, Rule
from coderd.http.body import BodyTooLarge, read_body
from coderd.model import limits
from coderd.model.errors import MalformedPacket
from coderd.model.roles import Role, Scope

BODY_TIMEOUT: Final = limits.API_BODY_TIMEOUT
"""Seconds for a request's whole body."""

M = TypeVar("M", bound=ApiMessage)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    role: Role
    user_id: UUID | None = None
    user_name: str = ""
    node_id: UUID | None = None
    """The device or workspace, if the token is a node's."""
    scope: Scope = Scope.ALL
    expires_at: float | None = None
    """When the token does, in wall-clock seconds; None = never."""
    source: str = ""
    """The address that the request came from."""
    token_id: UUID | None = None
    """The token's name in public."""
    is_sign_in: bool = False
    """Whether the token stands for a person having been let in, and was not made with another token."""


class ApiError(Exception):
    """A refusal, as the caller will read it."""

    def __init__(self, status: HTTPStatus, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(code=code, message=message, hint=hint)


class Call(NamedTuple):
    """Request that its caller is authorised to make."""

    rule: Rule
    caller: Caller
    token: str
    keys: Mapping[str, str]
    """What the path names."""
    message: ApiMessage | None
    """The body, of the rule's type."""
    query: ApiMessage | None
    """The query, of the rule's type."""
    arrived_at: str
    """The server's own address that it came to."""

    def body(self, kind: type[M]) -> M:
        """Returns the request's body, which the rule says is of this type."""
        assert isinstance(self.message, kind)
        return self.message

    def asked(self, kind: type[M]) -> M:
        """Returns the request's query, which the rule says is of this type."""
        assert isinstance(self.query, kind)
        return self.query


Handler: TypeAlias = Callable[[Call], Awaitable[ApiMessage | bytes]]
"""Answers with the rule's message, or with JSON that is ready."""
Identify: TypeAlias = Callable[[str, str], Awaitable[Caller]]
"""Identifies the caller by a token and the address that it came from. Raises ``ApiError`` to refuse."""

_BROKEN = HTTPStatus.INTERNAL_SERVER_ERROR


def api_routes(identify: Identify, handlers: Mapping[str, Handler]) -> list[BaseRoute]:
    """Returns the table as Starlette's routes, one for each path.

    Args:
        identify: finds the caller.
        handlers: one for each operation of the table, and no other.
    """
    if (odd := {rule.operation for rule in RULES} ^ handlers.keys()) != set():
        raise ValueError(f"without rule or without handler: {sorted(odd)}")
    paths: dict[str, dict[str, Rule]] = {}
    for rule in RULES:
        paths.setdefault(rule.path, {})[rule.method] = rule
    return [
        Route(PREFIX + path, _Endpoint(identify, rules, handlers).__call__, methods=list(rules))
        for path, rules in paths.items()
    ]


def error_handlers() -> dict[int | type[Exception], ExceptionHandler]:
    """Returns the application's handlers of errors, also of what no route answers."""
    return {HTTPException: _refuse_http, Exception: _refuse_http}


class _Endpoint:
    """One path: finds the rule, then the caller, then reads the request, then answers."""

    def __init__(self, identify: Identify, rules: dict[str, Rule], handlers: Mapping[str, Handler]) -> None:
        self._identify = identify
        self._rules = rules
        self._handlers = handlers

    async def __call__(self, request: Request) -> Response:
        rule = self._rules["GET" if request.method == "HEAD" else request.method]
        caller = Caller(Role.NOBODY, source=source_of(request))
        try:
            token = bearer_of(request)
            if token:
                caller = await self._identify(token, caller.source)
            authorise(caller, rule)
            call = await _read(rule, caller, token, request)
            answer = await self._handlers[rule.operation](call)
        except ApiError as error:
            return _refuse(rule, caller, error.body, error.status)
        except MalformedPacket as error:
            body = ErrorBody(code="bad_request", message=f"the request is invalid: {error}")
            return _refuse(rule, caller, body, HTTPStatus.BAD_REQUEST)
        return _answer(answer, HTTPStatus(rule.status))


def _refuse(rule: Rule, caller: Caller, body: ErrorBody, status: HTTPStatus) -> Response:
    """Logs a refused request and returns the refusal as a response."""
    log.info(
        "api_refused",
        operation=rule.operation,
        code=body.code,
        role=caller.role.name.lower(),
        user_id=str(caller.user_id or ""),
        node_id=str(caller.node_id or ""),
    )
    return _answer(body, status)


def authorise(caller: Caller, rule: Rule) -> None:
    """Returns if a caller may call this. Raises ApiError if not."""
    if rule.allows(caller.role, caller.scope):
        if rule.needs_sign_in and not caller.is_sign_in:
            raise ApiError(
                HTTPStatus.FORBIDDEN,
                "needs_sign_in",
                "this needs a token from signing in, and this one was created with another token",
                "Use the token that you signed in with, or ask an admin for a new one: coderctl users sign-in.",
            )
        return
    if caller.role is Role.NOBODY:
        raise ApiError(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "this token is unknown or has been revoked",
            "Sign in with a valid session token.",
        )
    if rule.allows(caller.role, Scope.ALL):
        permitted = "reading" if caller.scope is Scope.READ else "enrolling devices"
        message = f"this token's scope is {caller.scope.value}, which permits only {permitted}"
        raise ApiError(HTTPStatus.FORBIDDEN, "out_of_scope", message)
    raise ApiError(HTTPStatus.FORBIDDEN, "forbidden", "this token does not permit that")


def source_of(request: Request) -> str:
    """Returns the address that a request comes from."""
    return request.client.host if request.client is not None else ""


def bearer_of(request: Request) -> str:
    """Returns the bearer token; empty if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _read(rule: Rule, caller: Caller, token: str, request: Request) -> Call:
    body = await _read_body(request)
    if not body and rule.is_body_optional:
        body = b"{}"
    here = request.scope.get("server")
    return Call(
        rule,
        caller,
        token,
        request.path_params,
        parse_message(rule.request, body) if rule.request is not None else None,
        parse_query(rule.query, dict(request.query_params)) if rule.query is not None else None,
        here[0] if here is not None else "",
    )


async def _read_body(request: Request) -> bytes:
    try:
        return await read_body(request, limit=MAX_BODY, timeout=BODY_TIMEOUT)
    except BodyTooLarge:
        raise _too_large() from None
    except ClientDisconnect:
        raise MalformedPacket("it ended early") from None
    except trio.TooSlowError:
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "too_slow", "the request took too long") from None


def _too_large() -> ApiError:
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"the request's body is larger than {MAX_BODY} bytes",
    )


def _answer(message: ApiMessage | bytes, status: HTTPStatus) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["retry-after"] = "60"
    content = message if isinstance(message, bytes) else encode_message(message)
    return Response(content, status, headers, media_type="application/json")


async def _refuse_http(request: Request, error: Exception) -> Response:
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else _BROKEN
    body = ErrorBody(code=status.phrase.lower().replace(" ", "_"), message=status.phrase.lower())
    answer = _answer(body, status)
    for name, value in (getattr(error, "headers", None) or {}).items():
        answer.headers[name] = value
    return answer
