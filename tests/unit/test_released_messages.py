"""Nodes of released versions work with this server and the reverse.

Each end's messages are read by the other.
"""

from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest

from coderd.api import messages as api
from coderd.coordination import message as coordination
from coderd.coordination.entries import parse_peer, parse_self
from coderd.model.paths import PathKind
from coderd.peerapi import message as peerapi
from tests import released
from tests.released import VERSIONS, Protocol, plain

PEER = UUID(int=2)
FROM_NODE = {kind.__name__ for kind in get_args(coordination.NodeMessage)}


def said(protocol: str) -> list[Any]:
    """Returns a parameter for each message of each released version.

    What it said of the protocol, and the name.
    """
    return [
        pytest.param(then, name, id=f"{version}-{name}")
        for version in VERSIONS
        for then in [released.load(version, protocol)]
        for name in then.messages
    ]


def every(protocol: str) -> pytest.MarkDecorator:
    """Runs a test with what each released version said of a protocol."""
    return pytest.mark.parametrize(
        "then", [released.load(version, protocol) for version in VERSIONS], ids=VERSIONS
    )


def has_all_of(now: object, then: object) -> bool:
    """Returns whether a JSON value has all that another has, and perhaps more fields, at any depth."""
    if isinstance(now, dict) and isinstance(then, dict):
        return now.keys() >= then.keys() and all(has_all_of(now[key], then[key]) for key in then)
    if isinstance(now, list) and isinstance(then, list):
        return len(now) == len(then) and all(map(has_all_of, now, then))
    return now == then


@pytest.mark.parametrize(("then", "name"), said("coordination"))
def test_coordination_of_then_is_understood_now_and_that_of_now_was_then(then: Protocol, name: str) -> None:
    text = msgspec.json.encode(then.messages[name])
    parse = coordination.parse_node_message if name in FROM_NODE else coordination.parse_server_message
    now = parse(text)
    assert has_all_of(plain(now), then.messages[name])
    assert then.parses(name, now)


@pytest.mark.parametrize(("then", "name"), said("api"))
def test_the_api_of_then_is_understood_now_and_that_of_now_was_then(then: Protocol, name: str) -> None:
    now = api.parse_message(getattr(api, name), msgspec.json.encode(then.messages[name]))
    assert has_all_of(plain(now), then.messages[name])
    assert then.parses(name, now)


@pytest.mark.parametrize(("then", "name"), said("peerapi"))
def test_the_peer_api_of_then_is_understood_now_and_that_of_now_was_then(then: Protocol, name: str) -> None:
    line = msgspec.json.encode(then.messages[name])
    now = msgspec.json.decode(line, type=getattr(peerapi, name))
    assert has_all_of(plain(now), then.messages[name])
    assert then.parses(name, now)
    if isinstance(now, peerapi.Request):
        assert peerapi.parse_node_request(line) == now


@every("coordination")
def test_what_a_server_says_of_peers_has_only_the_words_that_nodes_of_then_know(then: Protocol) -> None:
    peers = coordination.parse_server_message(msgspec.json.encode(then.messages["Peers"]))
    welcome = coordination.parse_server_message(msgspec.json.encode(then.messages["Welcome"]))
    assert isinstance(peers, coordination.Peers)
    assert isinstance(welcome, coordination.Welcome)
    assert parse_peer(peers.upsert[0]).path_policy.value == "relay-only"
    assert parse_self(welcome.self).name == "ann/laptop"
    assert then.facts["VERSION"] == coordination.VERSION
    assert then.facts["PATH"] == coordination.PATH
    assert set(then.facts["FINAL_CODES"]) <= coordination.FINAL_CODES


@every("coordination")
def test_a_server_of_then_takes_an_update_with_reports(then: Protocol) -> None:
    report = coordination.PathReport(
        PEER, PathKind.DIRECT, rtt=0.01, since=3.0, time_to_direct=0.2, n_changes=1
    )
    update = coordination.Update(999, path_reports=[report], handshake_failures={"refused": 1})
    assert then.parses("Update", update)
    known = set(then.types["Update"]["properties"])
    assert {k: v for k, v in plain(update).items() if k in known and k not in ("type", "path_reports")} == {
        "home_region": 999,
        "endpoints": [],
        "latencies": {},
        "generation": None,
        "allowed_ips": None,
        **({"handshake_failures": {"refused": 1}} if "handshake_failures" in known else {}),
    }


@every("peerapi")
def test_a_workspace_of_then_opens_terminals_for_a_server_of_now_and_the_reverse(then: Protocol) -> None:
    if "TerminalRequest" in then.types:
        assert then.parses("TerminalRequest", peerapi.TerminalRequest(grace=60.0))
    assert peerapi.parse_node_request(b'{"method":"terminal","v":1}') == peerapi.TerminalRequest()


@every("peerapi")
def test_a_workspace_of_then_takes_requests_with_a_secret_and_those_of_then_have_none(then: Protocol) -> None:
    requests: list[peerapi.AnyRequest] = [
        peerapi.DialRequest(port=80),
        peerapi.FactsRequest(),
        peerapi.TerminalRequest(),
    ]
    for request in requests:
        name = type(request).__name__
        if name in then.types:
            assert then.parses(name, msgspec.structs.replace(request, secret="5e" * 32))
            assert "secret" not in then.messages[name]


@every("api")
def test_no_message_of_then_is_gone_or_has_lost_a_field(then: Protocol) -> None:
    assert len(then.types) > 10
    now = released.describe("api", api, then.messages).types
    for name, schema in then.types.items():
        assert schema.get("properties", {}).keys() <= now[name].get("properties", {}).keys(), name


def test_a_parser_of_then_takes_unknown_fields_but_no_wrong_type_and_no_missing_field() -> None:
    then = released.load(VERSIONS[-1], "coordination")
    assert then.parses("Ready", {"type": "ready", "ids": [str(PEER)], "unknown": 1})
    assert not then.parses("Ready", {"type": "ready", "ids": ["no UUID"]})
    assert not then.parses("Ready", {"type": "ready"})
    assert not then.parses("Ready", {"type": "goodbye", "ids": []})
