"""Every byte as the vectors have it: frames, boxes, HTTP heads, whole transcripts."""

import json
from pathlib import Path
from typing import Any

import pytest

from coderd.derp.client import DerpClient, Ready
from coderd.derp.dial_plan import dial_plan
from coderd.derp.frame import (
    FrameReader,
    FrameType,
    PeerGone,
    PeerGoneReason,
    Restarting,
    encode_frame,
    encode_note_preferred,
    encode_peer_gone,
    encode_send_packets,
    encode_server_key,
    parse_peer_gone,
    parse_restarting,
    parse_server_key,
)
from coderd.derp.handshake import (
    ClientInfo,
    ServerInfo,
    encode_client_info,
    encode_server_info,
    parse_client_info,
    parse_client_info_json,
    parse_server_info,
)
from coderd.derp.relay import Introduction
from coderd.derp.upgrade import upgrade_request, upgrade_response
from coderd.http.head import parse_request_head
from coderd.model.derpmap import DerpNode
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, NodePublic, ServerPrivate
from tests.derp_frames import encode_recv_packets

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "derp.json").read_text())
KEYS = {name: bytes.fromhex(value) for name, value in VECTORS["keys"].items()}
SERVER = ServerPrivate(KEYS["server_private"])
A = NodePrivate(KEYS["client_a_private"])
B_PUBLIC = NodePublic(KEYS["client_b_public"])
FRAMES = {case["name"]: bytes.fromhex(case["frame"]) for case in VECTORS["frames"]}
INFOS = {
    "regular": ClientInfo(can_ack_pings=True),
    "minimal": ClientInfo(),
    "prober_with_app": ClientInfo(can_ack_pings=True, is_prober=True, app_name="demo"),
    "mesh": ClientInfo(mesh_key=KEYS["mesh_key"]),
}


@pytest.mark.parametrize("case", VECTORS["frames"], ids=lambda case: case["name"])
def test_every_frame_reads_as_its_type_and_payload(case: dict[str, Any]) -> None:
    reader = FrameReader()
    reader.feed(bytes.fromhex(case["frame"]))
    assert list(reader) == [(case["type"], bytes.fromhex(case["payload"]))]


def test_frames_are_written_byte_for_byte() -> None:
    a = A.public()
    assert encode_server_key(SERVER.public()) == FRAMES["ServerKey"]
    assert encode_send_packets(B_PUBLIC, [b"hello"]) == FRAMES["SendPacket a->b 'hello'"]
    assert encode_recv_packets(a, [b"hello"]) == FRAMES["RecvPacket at b from a 'hello'"]
    assert encode_frame(FrameType.KEEP_ALIVE) == FRAMES["KeepAlive"]
    assert encode_note_preferred(True) == FRAMES["NotePreferred true"]
    assert encode_note_preferred(False) == FRAMES["NotePreferred false"]
    assert encode_peer_gone(B_PUBLIC, PeerGoneReason.NOT_HERE) == FRAMES["PeerGone not here"]
    assert encode_peer_gone(B_PUBLIC, PeerGoneReason.DISCONNECTED) == FRAMES["PeerGone disconnected"]


def test_frames_that_only_a_client_reads_are_understood() -> None:
    assert parse_server_key(FRAMES["ServerKey"][5:]) == SERVER.public()
    assert parse_peer_gone(FRAMES["PeerGone not here"][5:]) == PeerGone(B_PUBLIC, 1)
    assert parse_peer_gone(FRAMES["PeerGone old form without reason"][5:]) == PeerGone(B_PUBLIC, 0)
    restarting = FRAMES["Restarting reconnect_in=1500ms try_for=3000ms"]
    assert parse_restarting(restarting[5:]) == Restarting(1.5, 3.0)


@pytest.mark.parametrize("name", INFOS)
def test_client_info_is_sealed_and_opened_byte_for_byte(name: str) -> None:
    case, info = VECTORS["client_info"][name], INFOS[name]
    frame = bytes.fromhex(case["frame"])
    assert info.to_json().decode() == case["json"]
    assert encode_client_info(info, A, SERVER.public(), lambda _: bytes.fromhex(case["nonce"])) == frame
    assert parse_client_info(frame[5:], SERVER) == (A.public(), info)


@pytest.mark.parametrize("name", ["plain", "token_bucket"])
def test_server_info_is_sealed_and_opened_byte_for_byte(name: str) -> None:
    case = VECTORS["server_info"][name]
    info = ServerInfo() if name == "plain" else ServerInfo(2, 1_000_000, 200_000)
    frame = bytes.fromhex(case["frame"])
    assert info.to_json().decode() == case["json"]
    assert encode_server_info(info, SERVER, A.public(), lambda _: bytes.fromhex(case["nonce"])) == frame
    assert parse_server_info(frame[5:], A, SERVER.public()) == info


@pytest.mark.parametrize(
    "case", VECTORS["client_info_json_acceptance"]["cases"], ids=lambda case: case["json"]
)
def test_client_info_json_is_accepted_as_relays_do(case: dict[str, Any]) -> None:
    if not case["accepted"]:
        with pytest.raises(MalformedPacket):
            parse_client_info_json(case["json"].encode())
        return
    info = parse_client_info_json(case["json"].encode())
    assert (info.mesh_key == KEYS["mesh_key"]) is case.get("mesh", False)


def test_a_relay_without_a_mesh_key_takes_nobody_for_its_mesh() -> None:
    assert INFOS["mesh"].mesh_key == KEYS["mesh_key"]
    assert KEYS["mesh_key"].hex() not in repr(INFOS["mesh"])


def test_the_upgrade_is_answered_byte_for_byte() -> None:
    assert upgrade_response(SERVER.public()).decode() == VECTORS["http"]["response_101"]


def test_the_upgrade_requests_of_the_field_are_recognised() -> None:
    for name in ("request_plain", "request_fast_start", "request_fast_start_not_ideal_node_1a"):
        head = parse_request_head(VECTORS["http"][name].encode())
        assert head.wants_derp()
        assert (head.field("derp-fast-start") == "1") is ("fast_start" in name)


def test_our_request_is_the_fields_but_for_the_user_agent() -> None:
    plan = dial_plan(DerpNode("1a", 1, "derp1.example.com"))
    expected = VECTORS["http"]["request_plain"].replace("Go-http-client/1.1", "coderd").encode()
    assert upgrade_request(plan, ideal_node="1a") == expected
    assert b"\r\nIdeal-Node: 1b\r\nUpgrade: DERP" in upgrade_request(plan, ideal_node="1b")


def test_the_client_follows_the_transcript_of_a_plain_upgrade() -> None:
    _, greeting, client_info, server_info, preferred, sent = (
        bytes.fromhex(step["hex"]) for step in VECTORS["transcripts"]["plain_upgrade"]
    )
    nonce = bytes.fromhex(VECTORS["client_info"]["regular"]["nonce"])
    client = DerpClient(A, is_home=True, rng=lambda _: nonce, now=0.0)
    head = VECTORS["http"]["response_101"].encode()
    client.handle_data(greeting.removeprefix(head), 0.0)
    assert client.poll_transmit() == client_info + preferred
    client.handle_data(server_info, 0.0)
    assert client.poll_event() == Ready(SERVER.public(), ServerInfo())
    client.send(B_PUBLIC, [b"hello"], 0.0)
    assert client.poll_transmit() == sent


def test_the_relay_takes_client_info_that_came_with_a_fast_start() -> None:
    hello = bytes.fromhex(VECTORS["transcripts"]["fast_start"][0]["hex"])
    introduction = Introduction(SERVER)
    after_head = hello.removeprefix(VECTORS["http"]["request_fast_start"].encode())
    assert introduction.handle_data(after_head + b"rest") == (A.public(), INFOS["regular"])
    assert introduction.leftover() == b"rest"
