"""Terminals' frames are total and the same however the stream is cut.

The scrollback is the end of all that was written.
"""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from coderd.model.errors import MalformedPacket
from coderd.terminal import frames
from coderd.terminal.scrollback import Scrollback

SIDE = st.integers(1, frames.MAX_SIDE)
SIZES = st.builds(frames.Size, SIDE, SIDE)
TOKEN = st.binary(min_size=16, max_size=16)
FROM_CLIENT = (
    st.builds(frames.Open, st.integers(0, 2**64 - 1), SIZES, st.just(b"") | TOKEN)
    | st.builds(frames.Input, st.binary(max_size=50))
    | st.builds(frames.Resize, SIZES)
    | st.builds(frames.Ping, st.binary(min_size=8, max_size=8))
    | st.just(frames.Close())
)


@given(st.integers(0, 255), st.binary(max_size=60))
def test_any_frame_is_a_message_or_malformed(kind: int, body: bytes) -> None:
    for parse in (frames.parse_from_client, frames.parse_from_workspace):
        with contextlib.suppress(MalformedPacket):
            parse(kind, body)


@given(st.lists(FROM_CLIENT, max_size=6), st.integers(1, 40))
def test_messages_arrive_however_the_stream_is_cut(messages: list[frames.FromClient], step: int) -> None:
    data = b"".join(map(frames.encode, messages))
    splitter = frames.FrameSplitter()
    cut = [frame for i in range(0, len(data), step) for frame in splitter.feed(data[i : i + step])]
    assert [frames.parse_from_client(*frame) for frame in cut] == messages


@given(st.lists(st.binary(max_size=30), max_size=10), st.integers(1, 40), st.integers(0, 400))
def test_what_is_kept_is_the_end_of_what_was_written(chunks: list[bytes], limit: int, place: int) -> None:
    scrollback = Scrollback(limit)
    for chunk in chunks:
        scrollback.append(chunk)
    written = b"".join(chunks)
    assert scrollback.end == len(written)
    assert scrollback.read(scrollback.start, limit) == written[-limit:]
    assert scrollback.read(scrollback.clamp(place), limit) == written[scrollback.clamp(place) :]
