"""The OpenAPI 3.1 document, made from the table of routes and the messages' own types."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from coderd.api.messages import PREFIX, ApiMessage, ErrorBody
from coderd.api.rules import RULES, ResourceScope, Rule
from coderd.model.roles import Role

Json: TypeAlias = dict[str, object]

_REF = "#/components/schemas/"

_REFUSALS = {
    "400": "The request or a name in it is invalid.",
    "401": "The token is unknown, expired or revoked.",
    "403": "The token does not permit that.",
    "404": "It does not exist, or the token gives no access to it.",
    "405": "The path does not have this method.",
    "408": "The request took too long.",
    "409": "It conflicts with what exists.",
    "413": "The body is too large.",
    "429": "Too many unknown tokens came from this address.",
}


def build_openapi(version: str) -> Json:
    """Builds the OpenAPI document, ready to be encoded as JSON."""
    types = {kind for rule in RULES for kind in (rule.request, rule.answer) if kind is not None} | {ErrorBody}
    ordered = sorted(types, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF + "{name}")
    choices = {_REF + name: schema for name, schema in components.items() if "enum" in schema}
    paths: dict[str, Json] = {}
    for rule in RULES:
        paths.setdefault(PREFIX + rule.path, {})[rule.method.lower()] = _operation(rule)
    return {
        "openapi": "3.1.0",
        "info": {"title": "coderd", "version": version},
        "paths": paths,
        "components": {
            "schemas": {
                name: _inline(schema, choices)
                for name, schema in components.items()
                if _REF + name not in choices
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _inline(schema: Any, choices: Mapping[str, Json]) -> Any:
    """Writes an enum's words where it is used: clients know no names of our enums."""
    match schema:
        case {"$ref": str(ref), **others} if ref in choices:
            return {**others, "enum": choices[ref]["enum"]}
        case dict():
            return {key: _inline(value, choices) for key, value in schema.items()}
        case list():
            return [_inline(value, choices) for value in schema]
    return schema


def _operation(rule: Rule) -> Json:
    operation: Json = {
        "operationId": rule.operation,
        "summary": rule.summary,
        "description": _who(rule),
        "parameters": [*_path_parameters(rule), *_query_parameters(rule)],
        "responses": {str(rule.status): _content(rule.answer, "Done.")}
        | {status: _content(ErrorBody, why) for status, why in _REFUSALS.items()},
        "security": [] if Role.NOBODY in rule.roles else [{"token": []}],
    }
    if rule.request is not None:
        operation["requestBody"] = {"required": not rule.is_body_optional, **_content(rule.request)}
    return operation


def _who(rule: Rule) -> str:
    who = ", ".join(sorted(rule.roles))
    about = f" It may name: {rule.reach.value}." if rule.reach is not ResourceScope.NOTHING else ""
    sign_in = " Needs a token from signing in." if rule.needs_sign_in else ""
    return f"For: {who}.{about}{sign_in}"


def _path_parameters(rule: Rule) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": 130},
        }
        for name in re.findall(r"\{(\w+)\}", rule.path)
    ]


def _query_parameters(rule: Rule) -> list[Json]:
    if rule.query is None:
        return []
    return [
        {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": msgspec.json.schema(field.type),
        }
        for field in msgspec.structs.fields(rule.query)
    ]


def _content(kind: type[ApiMessage] | None, description: str = "") -> Json:
    schema: Json = {"type": "object"} if kind is None else {"$ref": _REF + kind.__name__}
    content: Json = {"content": {"application/json": {"schema": schema}}}
    return {"description": description, **content} if description else content
