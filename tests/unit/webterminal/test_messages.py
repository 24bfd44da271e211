"""What browser and server say to each other about a terminal, byte by byte.

It also tests the shells that the server remembers.
"""

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.model.errors import MalformedPacket
from coderd.terminal.frames import (
    Close,
    Exited,
    Input,
    Open,
    Opened,
    Output,
    Ping,
    Pong,
    Refused,
    Resize,
    Size,
)
from coderd.terminal.sessions import DETACHED_LIFETIME
from coderd.webterminal.held_shells import Held, HeldShells
from coderd.webterminal.messages import (
    MAX_MESSAGE,
    Path,
    Seen,
    ShellIds,
    encode_for_browser,
    parse_from_browser,
)

ANN, BOB, DEV, OPS = (UUID(int=number) for number in (1, 2, 8, 9))
IDS = ShellIds(b"k" * 32, ANN, DEV)
TOKEN = b"t" * 16
OPENING = struct.pack(">QHH", 5, 24, 80)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (b"\x01" + OPENING, Open(5, Size(24, 80))),
        (b"\x01" + OPENING + IDS.make_id(TOKEN), Open(5, Size(24, 80), TOKEN)),
        (b"\x02ls\n", Input(b"ls\n")),
        (b"\x03" + struct.pack(">HH", 24, 80), Resize(Size(24, 80))),
        (b"\x0412345678", Ping(b"12345678")),
        (b"\x05", Close()),
        (b"\x06" + struct.pack(">Q", 7), Seen(7)),
    ],
)
def test_what_a_browser_says(message: bytes, meaning: object) -> None:
    assert parse_from_browser(message, IDS) == meaning


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        (Opened(5, TOKEN), b"\x81" + struct.pack(">Q", 5) + IDS.make_id(TOKEN)),
        (Output(b"hi"), b"\x82hi"),
        (Exited(7), b"\x83\x07"),
        (Pong(b"12345678"), b"\x8412345678"),
        (Refused("offline", "Not there."), b"\x85offline Not there."),
        (Path("relay Here"), b"\x86relay Here"),
    ],
)
def test_what_a_browser_is_told(message: object, encoded: bytes) -> None:
    assert encode_for_browser(message, IDS) == encoded  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ids", [ShellIds(b"k" * 32, BOB, DEV), ShellIds(b"k" * 32, ANN, OPS), ShellIds(b"l" * 32, ANN, DEV)]
)
def test_an_id_is_of_one_user_one_workspace_and_one_server(ids: ShellIds) -> None:
    with pytest.raises(MalformedPacket):
        parse_from_browser(b"\x01" + OPENING + ids.make_id(TOKEN), IDS)


@pytest.mark.slow
@given(st.binary(max_size=200) | st.binary(min_size=MAX_MESSAGE + 1, max_size=MAX_MESSAGE + 2))
def test_any_bytes_of_a_browser_are_a_message_or_malformed(data: bytes) -> None:
    try:
        parse_from_browser(data, IDS)
    except MalformedPacket:
        return
    assert 0 < len(data) <= MAX_MESSAGE


def held(token: bytes) -> Held:
    return Held(ANN, DEV, token)


def test_a_shell_is_left_when_the_last_browser_has_gone_and_forgotten_when_its_workspace_has_ended_it() -> (
    None
):
    shells = HeldShells()
    first = shells.attach(held(b"a"))
    assert shells.attach(held(b"a")) is first
    shells.detach(first, 1.0)
    assert shells.left() == []
    shells.detach(first, 2.0)
    assert shells.left() == [first]
    shells.forget_expired(1.9 + DETACHED_LIFETIME)
    assert len(shells) == 1
    shells.forget_expired(2.0 + DETACHED_LIFETIME)
    assert len(shells) == 0


def test_of_too_many_shells_the_one_that_was_left_first_is_forgotten() -> None:
    shells = HeldShells(limit=2)
    for when, token in enumerate((b"a", b"b")):
        shells.detach(shells.attach(held(token)), float(when))
    shells.attach(held(b"c"))
    assert [one.token for one in shells.left()] == [b"b"]
