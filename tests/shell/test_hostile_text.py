"""Every command against a server, a daemon and a workspace that write what moves a cursor, ends a line or hides.

Nothing of it comes out raw, whichever field of whichever message it stands in; and ``--json`` is of the very value.
"""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from msgspec import inspect

from coderd.api.io.exchange import Exchange
from coderd.api.messages import ErrorBody, ListPage, encode_message, parse_message
from coderd.cli.coderctl import build_app
from coderd.cli.shell import run_app
from coderd.control.messages import METHODS, DerpMapInfo, DialTarget, Ready
from coderd.control.protocol import LineSplitter, encode_error, encode_event, encode_result, parse_request
from coderd.model.errors import Exit, UserError
from coderd.model.visible import is_hidden
from coderd.peerapi import message as node_api

HOSTILE = "a\x1b]0;x\x07\x9b31m\u202e\u2066\u200b\u2028\x85\r\nFORGED [bold]b[/bold]\x7f"
NO_CONTROLS = "a\u202e\u200b\u2028FORGED"
"""Where a message refuses controls by itself."""
RELAY_MAP = {
    "Regions": {
        "1": {
            "RegionID": 1,
            "RegionCode": HOSTILE,
            "RegionName": HOSTILE,
            "Nodes": [{"Name": HOSTILE, "RegionID": 1, "HostName": "relay.example"}],
        }
    }
}


def hostile(kind: Any) -> Any:
    """A value of a type with hostile text wherever there is text."""
    match inspect.type_info(kind) if not isinstance(kind, inspect.Type) else kind:
        case inspect.StructType(cls=cls) if cls is DerpMapInfo:
            checks = hostile(inspect.type_info(DerpMapInfo).fields[-1].type)  # type: ignore[attr-defined]
            return {"map": RELAY_MAP, "checks": [{**check, "region": 1} for check in checks]}
        case inspect.StructType(cls=cls, fields=fields, tag=tag, tag_field=tag_field):
            made = {field.encode_name: hostile(field.type) for field in fields}
            if issubclass(cls, ListPage):
                made["next"] = None  # one that goes on for ever is refused
            if cls in (DialTarget, Ready):
                made["address"] = "::1"  # is dialled, not shown
            return {**made, tag_field: tag} if tag_field else made
        case inspect.StrType(max_length=length, pattern=pattern):
            return (
                HOSTILE[:length] if pattern is None or re.search(pattern, HOSTILE) else NO_CONTROLS[:length]
            )
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.BoolType():
            return True
        case inspect.IntType(ge=least) | inspect.FloatType(ge=least):
            return max(least or 0, 1)
        case inspect.UUIDType():
            return "5f0c2a52-6b43-4f0e-9d5e-0c7f7f0e8a11"
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return [hostile(item)]
        case inspect.DictType(key_type=inspect.IntType(), value_type=value):
            return {1: hostile(value)}
        case inspect.DictType(value_type=value):
            return {HOSTILE: hostile(value)}
        case inspect.UnionType(types=types):
            return hostile(next(each for each in types if not isinstance(each, inspect.NoneType)))
        case inspect.EnumType(cls=cls):
            return next(iter(cls)).value
        case inspect.AnyType():
            return HOSTILE
        case other:
            raise AssertionError(f"no hostile value is known of {other}")


class Refusals:
    """What a test's server and daemon answer: hostile results, or hostile errors."""

    error: UserError | None = None


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusals]:
    refusals = Refusals()

    def ask(self: Exchange, kind: Any, method: str, path: str, body: Any = None) -> Any:
        if refusals.error is not None:
            raise refusals.error
        return parse_message(kind, encode_message_of(kind))

    def connect(path: Path) -> socket.socket:
        ours, theirs = socket.socketpair()
        threading.Thread(target=answer_one, args=(theirs, refusals), daemon=True).start()
        return ours

    monkeypatch.setattr(Exchange, "ask", ask)
    monkeypatch.setattr("coderd.control.io.client._connect", connect)
    monkeypatch.setattr("coderd.cli.join.save_session", lambda session: None)
    monkeypatch.setattr("coderd.cli.join.forget_session", lambda: None)
    monkeypatch.setattr("coderd.cli.terminal.RETRY_INTERVAL", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as busy:  # so that a forward, once it is allowed, ends
        monkeypatch.setitem(EXTRA, ("port-forward",), ["dev", f"{busy.getsockname()[1]}:80"])
        yield refusals


def encode_message_of(kind: Any) -> bytes:
    return msgspec.json.encode(hostile(kind))


def answer_one(stream: socket.socket, refusals: Refusals) -> None:
    """The daemon: one event and the result of whatever is asked."""
    splitter = LineSplitter()
    lines: list[bytes] = []
    with stream, suppress(OSError):  # a command may have read enough, and be gone
        while not lines:
            data = stream.recv(65536)
            if not data:
                return
            lines = list(splitter.feed(data))
        request = parse_request(lines[0])
        method = request.method
        if refusals.error is not None:
            stream.sendall(encode_error(request.id, refusals.error))
            return
        event = Ready if method.name == "speedtest" else method.event
        stream.sendall(b"".join(encode_event(request.id, hostile(event))))
        stream.sendall(b"".join(encode_result(request.id, hostile(method.result))))


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of coderctl, by its words."""
    group = typer.main.get_command(build_app()) if group is None else group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())
VALUES = {"role": "member", "port": "8080", "forwards": "18080:80", "path": "direct", "--path": "direct"}
EXTRA: dict[tuple[str, ...], list[str]] = {
    ("up",): ["http://127.0.0.1:9"],
    ("port-forward",): ["dev", "BUSY:80"],
    ("nc",): ["dev", "1"],
    ("completion",): ["bash"],
    ("__complete",): ["bash", "--", ""],
}

SILENT = {("apps", "delete"), ("share",), ("shares", "decline"), ("shares", "leave"), ("workspaces", "share")}
"""Say nothing where all is well, or where the guest who was named is not in the answer."""


ASK_NOBODY = {("completion",), ("__complete",)}
SAY_IT_AND_END_WELL = {("version",)}
"""Show what is known where the daemon or the server refuses."""


def arguments(words: tuple[str, ...], tmp_path: Path, *flags: str) -> list[str]:
    command = COMMANDS[words]
    names = {option for parameter in command.params for option in parameter.opts}
    given: list[str] = list(EXTRA.get(words, ()))
    for parameter in command.params:
        if parameter.param_type_name == "argument" and words not in EXTRA and parameter.required:
            given.append(VALUES.get(parameter.name, "dev"))
        elif parameter.param_type_name == "option" and parameter.required:
            given += [parameter.opts[0], VALUES.get(parameter.opts[0], "dev")]
    token = tmp_path / "token"
    token.write_text("cdrs_x")
    extra = ["--url", "http://127.0.0.1:9"] if "--url" in names else []
    extra += ["--token-file", str(token)] if "--token-file" in names else []
    extra += ["--yes"] if "--yes" in names else []
    extra += ["--check"] if words == ("derp-map",) else []
    return [*words, *given, *extra, *(flag for flag in flags if flag in names)]


def assert_harmless(text: str) -> None:
    assert not [letter for letter in text if is_hidden(letter) and letter != "\n"]
    assert not any(line.startswith("FORGED") for line in text.split("\n"))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_field_of_any_answer_reaches_the_terminal_raw(
    words: tuple[str, ...], others: Refusals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_app(build_app(), "coderctl", arguments(words, tmp_path))
    said = capsys.readouterr()
    assert said.out + said.err or words in SILENT
    assert "unexpected error" not in said.err
    assert "Usage" not in said.err
    assert_harmless(said.out + said.err)


@pytest.mark.parametrize("words", [each for each in COMMANDS if each not in ASK_NOBODY], ids=" ".join)
def test_no_refusal_reaches_the_terminal_raw(
    words: tuple[str, ...], others: Refusals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others.error = UserError(HOSTILE, hint=HOSTILE, exit_code=Exit.REFUSED)
    code = Exit.DONE if words in SAY_IT_AND_END_WELL else Exit.REFUSED
    assert run_app(build_app(), "coderctl", arguments(words, tmp_path)) == code
    said = capsys.readouterr()
    assert "FORGED" in said.err
    assert_harmless(said.out + said.err)


JSON_COMMANDS = [
    words for words, command in COMMANDS.items() if any("--json" in each.opts for each in command.params)
]


@pytest.mark.parametrize("words", [each for each in JSON_COMMANDS if each != ("speedtest",)], ids=" ".join)
def test_json_is_of_the_very_value_and_harmless(
    words: tuple[str, ...], others: Refusals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_app(build_app(), "coderctl", arguments(words, tmp_path, "--json"))
    out = capsys.readouterr().out
    assert_harmless(out)
    documents = out.strip().split("\n") if words == ("ping",) else [out]
    found = [text for document in documents for text in texts(json.loads(document))]
    assert HOSTILE in found or words == ("ping",)


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, each in value.items() for text in (key, *texts(each))]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


@contextmanager
def workspace(line: bytes) -> Iterator[tuple[str, int]]:
    """A node API that says one line to whoever asks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            stream, _ = listening.accept()
            with stream:
                stream.recv(4096)
                stream.sendall(line)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()


@pytest.mark.parametrize("words", [("nc", "dev", "80"), ("terminal", "dev")], ids=" ".join)
def test_no_refusal_of_a_workspace_reaches_the_terminal_raw(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = node_api.encode(
        node_api.DialReply(ok=False, error=node_api.DialError(code=HOSTILE, message=HOSTILE))
    )
    with workspace(reply) as address:
        monkeypatch.setattr("coderd.cli.peer_stream._dial", lambda target: socket.create_connection(address))
        monkeypatch.setattr("coderd.cli.peer_stream.ControlClient", _Daemon)
        run_app(build_app(), "coderctl", list(words))
    said = capsys.readouterr()
    assert "FORGED" in said.err
    assert_harmless(said.out + said.err)


class _Daemon:
    """Finds every workspace."""

    def __init__(self, path: Path) -> None:
        pass

    def __enter__(self) -> "_Daemon":
        return self

    def __exit__(self, *of: object) -> None:
        pass

    def call(self, method: Any, params: Any) -> Any:
        return method.result(name=HOSTILE, address="::1")


def test_every_message_can_be_made_hostile() -> None:
    for method in METHODS.values():
        msgspec.json.decode(msgspec.json.encode(hostile(method.result)), type=method.result)
    assert parse_message(ErrorBody, encode_message_of(ErrorBody)).message == HOSTILE
    assert encode_message(parse_message(ErrorBody, encode_message_of(ErrorBody)))
