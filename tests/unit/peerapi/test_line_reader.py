import pytest

from coderd.model.errors import MalformedPacket
from coderd.peerapi.line_reader import LineReader
from coderd.peerapi.message import MAX_LINE


def test_a_line_ends_at_its_newline_and_what_follows_is_left() -> None:
    reader = LineReader()
    assert reader.take(b'{"ok":') == 6
    assert reader.line is None
    assert reader.take(b"true}\nSSH-2.0\n") == 6
    assert reader.line == b'{"ok":true}'
    assert reader.take(b"SSH-2.0\n") == 0
    assert reader.line == b'{"ok":true}'


def test_an_empty_line_is_a_line() -> None:
    reader = LineReader()
    assert reader.take(b"\nmore") == 1
    assert reader.line == b""


@pytest.mark.parametrize("begun", [b"", b"half"])
def test_a_stream_that_ends_before_its_line_is_malformed(begun: bytes) -> None:
    reader = LineReader()
    if begun:
        reader.take(begun)
    with pytest.raises(MalformedPacket, match="ended"):
        reader.take(b"")


def test_the_end_of_the_stream_after_the_line_is_not_the_readers() -> None:
    reader = LineReader()
    reader.take(b"whole\n")
    assert reader.take(b"") == 0


def test_a_line_may_have_its_limit_with_the_newline_and_no_byte_more() -> None:
    reader = LineReader()
    assert reader.take(b"x" * (MAX_LINE - 1) + b"\n!") == MAX_LINE
    assert reader.line == b"x" * (MAX_LINE - 1)
    with pytest.raises(MalformedPacket, match="4096"):
        LineReader().take(b"x" * MAX_LINE + b"\n")


def test_how_much_is_missing_falls_to_nothing() -> None:
    reader = LineReader(limit=8)
    assert reader.n_missing == 8
    reader.take(b"abc")
    assert reader.n_missing == 5
    reader.take(b"\n")
    assert reader.n_missing == 0
