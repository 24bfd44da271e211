"""The table of routes.

Each line can be called by somebody, and the OpenAPI document says what the table says.
"""

import re

import pytest
from starlette.routing import Route

from coderd.api.io.routes import Call, api_routes
from coderd.api.messages import PREFIX, ApiMessage, Nothing
from coderd.api.openapi import build_openapi
from coderd.api.rules import RULES, ResourceScope, Rule
from coderd.model.roles import Role, Scope


async def nobody(token: str, source: str) -> None:
    raise AssertionError


async def answer(call: Call) -> ApiMessage:
    return Nothing()


def test_a_route_without_a_rule_and_a_rule_without_a_handler_cannot_be_built() -> None:
    handlers = {rule.operation: answer for rule in RULES}
    api_routes(nobody, handlers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="surprise"):
        api_routes(nobody, {**handlers, "surprise": answer})  # type: ignore[arg-type]
    del handlers["audit"]
    with pytest.raises(ValueError, match="audit"):
        api_routes(nobody, handlers)  # type: ignore[arg-type]


def test_the_documents_routes_are_the_routers() -> None:
    routes = api_routes(nobody, {rule.operation: answer for rule in RULES})  # type: ignore[arg-type]
    served = {
        (method, route.path)
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    paths = build_openapi("1")["paths"]
    assert isinstance(paths, dict)
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == served


def test_the_document_says_whose_token_is_needed() -> None:
    paths = build_openapi("1")["paths"]
    assert isinstance(paths, dict)
    operation = paths[PREFIX + "/audit"]["get"]
    assert operation["description"] == "For: admin, owner."
    assert operation["security"] == [{"token": []}]
    assert {parameter["name"] for parameter in operation["parameters"]} == {"before", "limit"}
    assert paths[PREFIX + "/healthz"]["get"]["security"] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.operation)
def test_every_rule_is_whole(rule: Rule) -> None:
    assert rule.roles
    assert rule.summary
    assert (rule.reach is ResourceScope.NOTHING) == (re.search(r"\{(key|id)\}", rule.path) is None)
    assert (rule.request is not None) == (rule.method in ("POST", "PATCH") or rule.is_body_optional)


def test_a_scope_narrows_what_a_session_may_do() -> None:
    def allowed(scope: Scope) -> set[str]:
        return {rule.operation for rule in RULES if rule.allows(Role.OWNER, scope)}

    assert allowed(Scope.READ) == {
        rule.operation for rule in RULES if rule.method == "GET" and Role.OWNER in rule.roles
    } | {"end_session"}
    assert allowed(Scope.ENROL) == {"me", "end_session", "enrol_device", "reflection"}
    assert allowed(Scope.ALL) >= allowed(Scope.READ) | allowed(Scope.ENROL)
