"""Any body is a message or malformed; every message survives the wire."""

from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.api.messages import (
    ApiMessage,
    CreateWorkspace,
    DeviceEnrolled,
    EnrolDevice,
    ErrorBody,
    ServerCounters,
    WorkspaceInfo,
    WorkspaceList,
    encode_message,
    parse_message,
)
from coderd.model.errors import MalformedPacket

KINDS: list[type[ApiMessage]] = [
    CreateWorkspace,
    EnrolDevice,
    ErrorBody,
    DeviceEnrolled,
    WorkspaceList,
    ServerCounters,
]
info = WorkspaceInfo(id=UUID(int=1), name="dev", owner="ann", address="fd60::1", online=True, created_at=1.5)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(kind: type[ApiMessage], data: bytes) -> None:
    with suppress(MalformedPacket):
        parse_message(kind, data)


@given(st.text(min_size=1, max_size=253), st.text(max_size=80))
def test_a_wish_survives_the_wire(name: str, key: str) -> None:
    for message in (CreateWorkspace(name=name), EnrolDevice(name=name, node_key=key)):
        assert parse_message(type(message), encode_message(message)) == message


def test_answers_survive_the_wire_and_newer_fields_are_ignored() -> None:
    listing = WorkspaceList(workspaces=[info, info])
    assert parse_message(WorkspaceList, encode_message(listing)) == listing
    assert parse_message(ErrorBody, b'{"code":"a","message":"b","more":[1]}') == ErrorBody(
        code="a", message="b"
    )
