"""The API for a caller who is signed in by browser: its rules and handlers, called without HTTP."""

from collections.abc import Mapping
from http import HTTPStatus

from coderd.api.io.routes import ApiError, Call, Caller, Handler, authorise
from coderd.api.messages import ApiMessage, parse_query
from coderd.api.rules import Rule
from coderd.dashboard.table import RULE_OF, Action, Ask, Page
from coderd.model.errors import MalformedPacket


class InProcessApi:
    """The API's handlers, called for one caller without HTTP.

    Args:
        handlers: the API's handlers by operation.
        caller: the session's caller.
    """

    def __init__(self, handlers: Mapping[str, Handler], caller: Caller) -> None:
        self._handlers = handlers
        self.caller = caller

    def may(self, operation: str) -> bool:
        """Returns whether the caller may use an operation at all."""
        rule = RULE_OF[operation]
        is_enough = self.caller.is_sign_in or not rule.needs_sign_in
        return is_enough and rule.allows(self.caller.role, self.caller.scope)

    def may_see(self, page: Page) -> bool:
        """Returns whether the caller may use every operation that a page needs."""
        return all(self.may(ask.operation) for ask in page.asks)

    async def ask(self, ask: Ask, query: Mapping[str, str]) -> ApiMessage:
        """Calls the operation that a page shows. Raises ApiError."""
        rule = RULE_OF[ask.operation]
        values = {name: query[name] for name in ask.parameters if query.get(name)}
        keys = {name: query.get(name, "") for name in ask.keys}
        return await self._call(rule, keys, None, None if rule.query is None else _read(rule.query, values))

    async def act(self, action: Action, form: Mapping[str, str]) -> ApiMessage:
        """Carries out the operation of a form. Raises ApiError."""
        rule = RULE_OF[action.operation]
        keys = {name: form.get(name, "") for name in action.keys}
        values = {name: form[name].strip() for name in action.fields if form.get(name, "").strip()}
        if rule.request is not None:
            return await self._call(rule, keys, _read(rule.request, values), None)
        return await self._call(rule, keys, None, None if rule.query is None else _read(rule.query, values))

    async def _call(
        self, rule: Rule, keys: Mapping[str, str], message: ApiMessage | None, query: ApiMessage | None
    ) -> ApiMessage:
        authorise(self.caller, rule)
        answer = await self._handlers[rule.operation](Call(rule, self.caller, "", keys, message, query, ""))
        assert isinstance(answer, ApiMessage)
        return answer


def _read(kind: type[ApiMessage], values: dict[str, str]) -> ApiMessage:
    """Converts a form's texts to an API message. Raises ApiError with a sentence that names the field."""
    try:
        return parse_query(kind, values)
    except MalformedPacket as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, "bad_request", f"the request is invalid: {error}") from None
