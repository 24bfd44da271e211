"""The landed versions' nodes work with this server and the reverse: each end's messages are read by the other."""

from types import ModuleType
from uuid import UUID

import msgspec
import pytest

from coderd.api import messages as api
from coderd.coordination import message as coordination
from coderd.coordination.entries import parse_peer, parse_self
from coderd.model.addresses import tailnet_address
from coderd.peerapi import message as node_api
from tests.fixtures.landed_3cd4b54 import api_messages as api_3cd4b54
from tests.fixtures.landed_3cd4b54 import coordination_message as coordination_3cd4b54
from tests.fixtures.landed_3cd4b54 import node_api as node_api_3cd4b54
from tests.fixtures.landed_6ac22f5 import api_messages as api_6ac22f5
from tests.fixtures.landed_6ac22f5 import coordination_message as coordination_6ac22f5
from tests.fixtures.landed_6ac22f5 import node_api as node_api_6ac22f5
from tests.fixtures.landed_65343fb import api_messages as api_65343fb
from tests.fixtures.landed_65343fb import coordination_message as coordination_65343fb

VERSIONS = ["65343fb", "3cd4b54", "6ac22f5"]
every_landed_coordination = pytest.mark.parametrize(
    "old", [coordination_65343fb, coordination_3cd4b54, coordination_6ac22f5], ids=VERSIONS
)
every_landed_api = pytest.mark.parametrize("old_api", [api_65343fb, api_3cd4b54, api_6ac22f5], ids=VERSIONS)
every_landed_node_api = pytest.mark.parametrize(
    "old_node_api", [node_api_3cd4b54, node_api_6ac22f5], ids=["3cd4b54", "6ac22f5"]
)

ME, PEER = UUID(int=1), UUID(int=2)
NODE_KEY, DISCO_KEY, DERP_KEY = "nodekey:" + "1" * 64, "discokey:" + "2" * 64, "derpkey:" + "3" * 64
MAP: dict[str, object] = {"Regions": {"999": {"RegionID": 999, "RegionCode": "coder", "Nodes": []}}}

COORDINATION = {
    "hello": {
        "type": "hello",
        "version": 1,
        "node_key": NODE_KEY,
        "disco_key": DISCO_KEY,
        "generation": 2**64 - 1,
        "proof": "p",
        "resume_token": "r",
        "allowed_ips": None,
    },
    "update": {
        "type": "update",
        "home_region": 999,
        "endpoints": [{"addr": "192.0.2.1:41641", "type": 1}],
        "latencies": {"999": 0.01},
        "generation": 7,
        "allowed_ips": None,
    },
    "ready": {"type": "ready", "ids": [str(PEER)]},
    "goodbye": {"type": "goodbye"},
    "alive": {"type": "alive"},
    "challenge": {"type": "challenge", "server_key": NODE_KEY, "nonce": "00" * 32, "version": 1},
    "welcome": {
        "type": "welcome",
        "self": {
            "id": str(ME),
            "kind": "device",
            "name": "ann/laptop",
            "address": str(tailnet_address(ME)),
        },
        "derp_map": MAP,
        "resume_token": "r",
        "server_key": DERP_KEY,
    },
    "peers": {
        "type": "peers",
        "upsert": [
            {
                "id": str(PEER),
                "kind": "workspace",
                "name": "ann/dev",
                "node_key": NODE_KEY,
                "disco_key": DISCO_KEY,
                "address": str(tailnet_address(PEER)),
                "home_region": 999,
                "generation": 7,
                "endpoints": ["192.0.2.2:41641"],
                "path_policy": "relay-only",
                "signature": None,
            }
        ],
        "remove": [{"id": str(ME), "reason": "denied"}],
        "absent": [{"id": str(ME), "kind": "workspace", "name": "ann/lab"}],
        "full": True,
        "more": False,
    },
    "derp_map": {"type": "derp_map", "derp_map": MAP},
    "reconnect": {"type": "reconnect", "after_ms": 500},
    "error": {"type": "error", "code": "replaced", "message": "m"},
}
FROM_NODE = ("hello", "update", "ready", "goodbye", "alive")

ID = str(ME)
_NODE = {"id": ID, "name": "dev", "owner": "ann", "address": "fd60::1"}
API: dict[str, dict[str, object]] = {
    "ErrorBody": {"code": "c", "message": "m", "hint": ""},
    "Health": {"status": "ok", "version": "0.1.0"},
    "UserInfo": {"id": ID, "name": "ann", "is_admin": False},
    "CreateUser": {"name": "ann"},
    "UserCreated": {"id": ID, "name": "ann", "token": "t"},
    "CreateWorkspace": {"name": "dev"},
    "WorkspaceCreated": {**_NODE, "token": "t"},
    "WorkspaceInfo": {**_NODE, "online": True, "created_at": 1.0},
    "WorkspaceList": {"workspaces": [{**_NODE, "online": True, "created_at": 1.0}]},
    "EnrolDevice": {"name": "laptop", "node_key": NODE_KEY},
    "DeviceEnrolled": {**_NODE, "token": "t"},
    "DeviceInfo": {**_NODE, "online": True, "created_at": 1.0},
    "DeviceList": {"devices": [{**_NODE, "online": True, "created_at": 1.0}]},
    "Nothing": {},
}


def plain(message: object) -> dict[str, object]:
    """A message as JSON's types."""
    value = msgspec.json.decode(msgspec.json.encode(message))
    assert isinstance(value, dict)
    return value


def has_all_of(now: object, then: object) -> bool:
    """Whether a JSON value has whatever another has, and may have more fields, at any depth."""
    if isinstance(now, dict) and isinstance(then, dict):
        return now.keys() >= then.keys() and all(has_all_of(now[key], then[key]) for key in then)
    if isinstance(now, list) and isinstance(then, list):
        return len(now) == len(then) and all(map(has_all_of, now, then))
    return now == then


@every_landed_coordination
@pytest.mark.parametrize("name", COORDINATION)
def test_coordination_of_then_is_understood_now_and_that_of_now_was_then(name: str, old: ModuleType) -> None:
    text = msgspec.json.encode(COORDINATION[name])
    read_now = coordination.parse_node_message if name in FROM_NODE else coordination.parse_server_message
    read_then = old.parse_node_message if name in FROM_NODE else old.parse_server_message
    now, then = read_now(text), read_then(text)
    assert has_all_of(plain(now), plain(then))
    assert plain(read_then(coordination.encode_message(now))) == plain(then)
    assert plain(read_now(old.encode_message(then))) == plain(now)


@every_landed_api
@pytest.mark.parametrize("name", API)
def test_the_api_of_then_is_understood_now_and_that_of_now_was_then(name: str, old_api: ModuleType) -> None:
    kind, kind_then = getattr(api, name), getattr(old_api, name)
    text = msgspec.json.encode(API[name])
    now, then = api.parse_message(kind, text), old_api.parse_message(kind_then, text)
    assert plain(old_api.parse_message(kind_then, api.encode_message(now))) == plain(then)
    assert plain(api.parse_message(kind, old_api.encode_message(then))) == plain(now)


@every_landed_coordination
def test_what_a_server_says_of_peers_has_only_the_words_that_nodes_of_then_know(old: ModuleType) -> None:
    peers = coordination.parse_server_message(msgspec.json.encode(COORDINATION["peers"]))
    welcome = coordination.parse_server_message(msgspec.json.encode(COORDINATION["welcome"]))
    assert isinstance(peers, coordination.Peers)
    assert isinstance(welcome, coordination.Welcome)
    assert parse_peer(peers.upsert[0]).path_policy.value == "relay-only"
    assert parse_self(welcome.self).name == "ann/laptop"
    assert old.VERSION == coordination.VERSION
    assert old.PATH == coordination.PATH
    assert old.FINAL_CODES <= coordination.FINAL_CODES


@every_landed_coordination
def test_a_server_of_then_takes_an_update_with_reports(old: ModuleType) -> None:
    report = coordination.PathReport(PEER, "direct", rtt=0.01, since=3.0, time_to_direct=0.2, n_changes=1)
    update = coordination.Update(999, path_reports=[report], handshake_failures={"refused": 1})
    read = old.parse_node_message(coordination.encode_message(update))
    assert isinstance(read, old.Update)
    assert (read.home_region, read.endpoints, read.generation) == (999, [], None)


@every_landed_node_api
def test_a_workspace_of_then_opens_terminals_for_a_server_of_now_and_the_reverse(
    old_node_api: ModuleType,
) -> None:
    then = old_node_api.TerminalRequest()
    now = node_api.TerminalRequest(grace=60.0)
    assert isinstance(old_node_api.parse_node_request(node_api.encode(now)), old_node_api.TerminalRequest)
    assert node_api.parse_node_request(old_node_api.encode(then)) == node_api.TerminalRequest()


@every_landed_node_api
def test_a_workspace_of_then_takes_requests_with_a_secret_and_those_of_then_have_none(
    old_node_api: ModuleType,
) -> None:
    for name, fields in (("DialRequest", {"port": 80}), ("FactsRequest", {}), ("TerminalRequest", {})):
        now, then = getattr(node_api, name), getattr(old_node_api, name)
        assert old_node_api.parse_node_request(node_api.encode(now(secret="5e" * 32, **fields))) == then(
            **fields
        )
        assert node_api.parse_node_request(old_node_api.encode(then(**fields))) == now(**fields)


@every_landed_api
def test_no_message_of_then_is_gone_or_has_lost_a_field(old_api: ModuleType) -> None:
    kinds = [
        kind for kind in vars(old_api).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        assert set(kind.__struct_fields__) <= set(getattr(api, kind.__name__).__struct_fields__), kind
