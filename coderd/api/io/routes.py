"""The API's routes: who may ask what is one table, and nothing answers before it has been asked.

A handler gets a caller that has the right to call it, and a parsed request; it raises ``ApiError`` to refuse.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

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
    CreateUser,
    CreateWorkspace,
    DeviceEnrolled,
    DeviceList,
    EnrolDevice,
    ErrorBody,
    Health,
    Nothing,
    Reflection,
    ServerCounters,
    UserCreated,
    UserInfo,
    WorkspaceCreated,
    WorkspaceInfo,
    WorkspaceList,
    encode_message,
    parse_message,
)
from coderd.model.errors import MalformedPacket

BODY_TIMEOUT = 10.0
"""Seconds for a request's whole body."""


class Role(Enum):
    """What a caller's token makes of it."""

    NOBODY = auto()
    """No token, or one that nobody knows."""
    WORKSPACE = auto()
    DEVICE = auto()
    USER = auto()
    ADMIN = auto()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    role: Role
    user_id: UUID | None = None
    user_name: str = ""
    node_id: UUID | None = None
    """The device or workspace, if the token is a node's."""


class ApiError(Exception):
    """A refusal, as the caller will read it."""

    def __init__(self, status: HTTPStatus, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(code=code, message=message, hint=hint)


class Backend(Protocol):
    """What the API asks of the server; every method may refuse with ``ApiError``."""

    async def identify(self, token: str) -> Caller:
        """Whose token this is; ``Role.NOBODY`` for none."""

    async def create_user(self, caller: Caller, request: CreateUser) -> UserCreated:
        """A new user with a session."""

    async def end_session(self, caller: Caller, token: str) -> None:
        """Revokes the session token."""

    async def create_workspace(self, caller: Caller, request: CreateWorkspace) -> WorkspaceCreated:
        """A new workspace of the caller's."""

    async def list_workspaces(self, caller: Caller) -> WorkspaceList:
        """The caller's workspaces."""

    async def get_workspace(self, caller: Caller, key: UUID | str) -> WorkspaceInfo:
        """One of them."""

    async def delete_workspace(self, caller: Caller, key: UUID | str) -> None:
        """Deletes one of them, and ends its connections."""

    async def enrol_device(self, caller: Caller, request: EnrolDevice) -> DeviceEnrolled:
        """A machine becomes the caller's device."""

    async def list_devices(self, caller: Caller) -> DeviceList:
        """The caller's devices."""

    async def delete_device(self, caller: Caller, key: UUID | str) -> None:
        """Deletes one of the caller's devices, or the device that calls, and ends its connections."""

    def counters(self) -> Awaitable[ServerCounters]:
        """What was moved and refused."""


class Call(NamedTuple):
    """A request whose caller may make it."""

    caller: Caller
    token: str
    request: Request
    body: bytes

    @property
    def key(self) -> UUID | str:
        """The path's ``{key}``: an id if it looks like one, else a name."""
        text: str = self.request.path_params["key"]
        try:
            return UUID(text) if len(text) == 36 else text
        except ValueError:
            return text


Handler: TypeAlias = Callable[[Call], Awaitable[ApiMessage]]

_BROKEN = HTTPStatus.INTERNAL_SERVER_ERROR

ANYBODY = frozenset(Role)
SESSION = frozenset({Role.USER, Role.ADMIN})
ADMIN = frozenset({Role.ADMIN})
SESSION_OR_DEVICE = SESSION | {Role.DEVICE}
KNOWN = ANYBODY - {Role.NOBODY}


class Rule(NamedTuple):
    """One line of the table."""

    method: str
    path: str
    roles: frozenset[Role]
    handler: Handler
    status: HTTPStatus = HTTPStatus.OK


def api_rules(backend: Backend, *, version: str) -> list[Rule]:
    """The table: every route, and who may use it."""
    api = _Handlers(backend, version)
    created = HTTPStatus.CREATED
    return [
        Rule("GET", "/healthz", ANYBODY, api.healthz),
        Rule("GET", "/users/me", SESSION, api.me),
        Rule("POST", "/users", ADMIN, api.create_user, created),
        Rule("DELETE", "/sessions/me", SESSION, api.end_session),
        Rule("GET", "/workspaces", SESSION, api.list_workspaces),
        Rule("POST", "/workspaces", SESSION, api.create_workspace, created),
        Rule("GET", "/workspaces/{key}", SESSION, api.get_workspace),
        Rule("DELETE", "/workspaces/{key}", SESSION, api.delete_workspace),
        Rule("GET", "/devices", SESSION, api.list_devices),
        Rule("POST", "/devices", SESSION, api.enrol_device, created),
        Rule("DELETE", "/devices/{key}", SESSION_OR_DEVICE, api.delete_device),
        Rule("GET", "/reflection", KNOWN, api.reflection),
        Rule("GET", "/debug/counters", ADMIN, api.counters),
    ]


def api_routes(backend: Backend, *, version: str) -> list[BaseRoute]:
    """The table as Starlette's routes: one per path, which knows its methods."""
    paths: dict[str, dict[str, Rule]] = {}
    for rule in api_rules(backend, version=version):
        paths.setdefault(rule.path, {})[rule.method] = rule
    return [
        Route(PREFIX + path, _Endpoint(backend, rules).__call__, methods=list(rules))
        for path, rules in paths.items()
    ]


def error_handlers() -> dict[int | type[Exception], ExceptionHandler]:
    """For the application: also what no route answers, or a defect, is refused in JSON."""
    return {HTTPException: _refuse_http, Exception: _refuse_http}


class _Handlers:
    """From calls to the backend and back."""

    def __init__(self, backend: Backend, version: str) -> None:
        self._backend = backend
        self._version = version

    async def healthz(self, call: Call) -> ApiMessage:
        return Health(status="ok", version=self._version)

    async def me(self, call: Call) -> ApiMessage:
        caller = call.caller
        assert caller.user_id is not None
        return UserInfo(id=caller.user_id, name=caller.user_name, is_admin=caller.role is Role.ADMIN)

    async def create_user(self, call: Call) -> ApiMessage:
        return await self._backend.create_user(call.caller, parse_message(CreateUser, call.body))

    async def end_session(self, call: Call) -> ApiMessage:
        await self._backend.end_session(call.caller, call.token)
        return Nothing()

    async def list_workspaces(self, call: Call) -> ApiMessage:
        return await self._backend.list_workspaces(call.caller)

    async def create_workspace(self, call: Call) -> ApiMessage:
        return await self._backend.create_workspace(call.caller, parse_message(CreateWorkspace, call.body))

    async def get_workspace(self, call: Call) -> ApiMessage:
        return await self._backend.get_workspace(call.caller, call.key)

    async def delete_workspace(self, call: Call) -> ApiMessage:
        await self._backend.delete_workspace(call.caller, call.key)
        return Nothing()

    async def list_devices(self, call: Call) -> ApiMessage:
        return await self._backend.list_devices(call.caller)

    async def enrol_device(self, call: Call) -> ApiMessage:
        return await self._backend.enrol_device(call.caller, parse_message(EnrolDevice, call.body))

    async def delete_device(self, call: Call) -> ApiMessage:
        await self._backend.delete_device(call.caller, call.key)
        return Nothing()

    async def reflection(self, call: Call) -> ApiMessage:
        client, here = call.request.client, call.request.scope.get("server")
        return Reflection(
            seen_from=client.host if client is not None else "",
            arrived_at=here[0] if here is not None else "",
            unix_time=time.time(),
            n_stun_answered=(await self._backend.counters()).counters.get("stun.answered", 0),
        )

    async def counters(self, call: Call) -> ApiMessage:
        return await self._backend.counters()


class _Endpoint:
    """One path: finds the rule, then the caller, then reads the body, then answers."""

    def __init__(self, backend: Backend, rules: dict[str, Rule]) -> None:
        self._backend = backend
        self._rules = rules

    async def __call__(self, request: Request) -> Response:
        try:
            rule = self._rules["GET" if request.method == "HEAD" else request.method]
            token = _bearer(request)
            caller = await self._backend.identify(token) if token else Caller(Role.NOBODY)
            _authorise(caller, rule)
            body = await _read_body(request)
            answer = await rule.handler(Call(caller, token, request, body))
        except ApiError as error:
            return _answer(error.body, error.status)
        except MalformedPacket as error:
            return _answer(
                ErrorBody(code="bad_request", message=f"the request makes no sense: {error}"),
                HTTPStatus.BAD_REQUEST,
            )
        return _answer(answer, rule.status)


def _authorise(caller: Caller, rule: Rule) -> None:
    if caller.role in rule.roles:
        return
    if caller.role is Role.NOBODY:
        raise ApiError(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "this token is unknown or has been revoked",
            "Sign in with a valid session token.",
        )
    raise ApiError(HTTPStatus.FORBIDDEN, "forbidden", "this token has not the right to do that")


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        with trio.fail_after(BODY_TIMEOUT):
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise _too_large()
    except ClientDisconnect:
        raise MalformedPacket("it ended early") from None
    except trio.TooSlowError:
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "too_slow", "the request took too long") from None
    return bytes(body)


def _too_large() -> ApiError:
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"a request's body may have {MAX_BODY} bytes"
    )


def _answer(message: ApiMessage, status: HTTPStatus) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return Response(encode_message(message), status, headers, media_type="application/json")


async def _refuse_http(request: Request, error: Exception) -> Response:
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else _BROKEN
    body = ErrorBody(code=status.phrase.lower().replace(" ", "_"), message=status.phrase.lower())
    answer = _answer(body, status)
    for name, value in (getattr(error, "headers", None) or {}).items():
        answer.headers[name] = value
    return answer
