"""Messages of released versions, as JSON, and what their parsers take.

``tests/fixtures/released_<version>/`` has a file for each protocol: *facts* that both ends must agree on, a
*message* of each kind as that version wrote it, and the *types* that its parsers read, as JSON Schema without
the documentation.

``python -m tests.released VERSION`` pins the messages of the code as it is, before a release.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

import jsonschema_rs
import msgspec

from coderd.api import messages as api
from coderd.coordination import message as coordination
from coderd.peerapi import message as peerapi

JsonObject: TypeAlias = dict[str, Any]

VERSIONS: Final = ("65343fb", "3cd4b54", "6ac22f5")
"""Oldest first. There were no tags then: these are commits, and the last one is 0.1.0."""
MODULES: Final[dict[str, ModuleType]] = {"coordination": coordination, "api": api, "peerapi": peerapi}
"""What has each protocol's messages now."""
_FACTS: Final = {
    "coordination": ("VERSION", "PATH", "FINAL_CODES", "MAX_NODE_MESSAGE", "MAX_SERVER_MESSAGE"),
    "api": ("PREFIX", "MAX_BODY", "MAX_ANSWER"),
    "peerapi": ("MAX_LINE",),
}
_FIXTURES: Final = Path(__file__).parent / "fixtures"
_REF: Final = "#/types/{name}"


@dataclass(frozen=True)
class Protocol:
    """What one version said of one protocol."""

    facts: JsonObject
    messages: JsonObject
    """By the name of the message's type."""
    types: JsonObject
    """JSON Schemas by the type's name."""

    def parses(self, kind: str, message: object) -> bool:
        """Returns whether that version's parser of a type took a message.

        Fields that it did not know it ignored.
        """
        schema = {"$ref": _REF.format(name=kind), "types": self.types}
        return jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(plain(message))


def load(version: str, protocol: str) -> Protocol:
    """Reads what a released version said of a protocol."""
    return Protocol(**json.loads(_path(version, protocol).read_text(encoding="utf-8")))


def plain(message: object) -> Any:
    """Returns a message as JSON's types."""
    return msgspec.json.decode(msgspec.json.encode(message))


def describe(protocol: str, module: ModuleType, samples: Mapping[str, Any]) -> Protocol:
    """Returns what a module says of a protocol; samples are messages by the name of their type."""
    facts = {name: getattr(module, name) for name in _FACTS[protocol]}
    messages = {
        name: plain(msgspec.json.decode(msgspec.json.encode(value), type=getattr(module, name)))
        for name, value in samples.items()
    }
    _, types = msgspec.json.schema_components(_structs(module), schema_hook=_anything, ref_template=_REF)
    return Protocol({name: _sorted(fact) for name, fact in facts.items()}, messages, _bare(types))


def save(version: str, protocol: str, said: Protocol) -> None:
    """Writes a version's file for a protocol, a line for each message and each type."""
    path = _path(version, protocol)
    path.parent.mkdir(exist_ok=True)
    parts = ",\n".join(f'"{name}": {_lines(part)}' for name, part in asdict(said).items())
    path.write_text(f"{{\n{parts}\n}}\n", encoding="utf-8")


def _path(version: str, protocol: str) -> Path:
    return _FIXTURES / f"released_{version}" / f"{protocol}.json"


def _structs(module: ModuleType) -> Iterator[type[msgspec.Struct]]:
    """Returns the messages that a module has, whichever of its package defines them, without their bases."""
    structs = [
        kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ]
    bases = {base for kind in structs for base in kind.__bases__}
    return (
        kind
        for kind in structs
        if kind.__module__.rpartition(".")[0] == module.__package__ and kind not in bases
    )


def _anything(kind: type) -> JsonObject:
    """Returns the schema of a field of type ``object``; msgspec refuses an empty one."""
    return {"title": kind.__name__}


def _sorted(fact: object) -> object:
    return sorted(fact) if isinstance(fact, frozenset) else fact


def _lines(values: JsonObject) -> str:
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in values.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _bare(schema: Any) -> Any:
    """Returns a schema without titles and descriptions, with patterns in the words of JSON Schema.

    A field of such a name is a schema, not a text.
    """
    if isinstance(schema, str):
        return schema.replace(r"\Z", "$")
    if isinstance(schema, dict):
        named = schema.items()
        return {k: _bare(v) for k, v in named if k not in ("title", "description") or not isinstance(v, str)}
    return [_bare(value) for value in schema] if isinstance(schema, list) else schema


def _pin_current(version: str) -> None:
    """Pins the code as it is, with the newest release's messages.

    New kinds of message are added to the file by hand.
    """
    for protocol, module in MODULES.items():
        save(version, protocol, describe(protocol, module, load(VERSIONS[-1], protocol).messages))


if __name__ == "__main__":
    _pin_current(sys.argv[1])
