from hypothesis import given
from hypothesis import strategies as st

from coderd.model.errors import MalformedPacket
from coderd.peerapi.line_reader import LineReader


def read(chunks: list[bytes], limit: int) -> tuple[bytes | None, bytes]:
    """The line, None where it is malformed or unfinished, and the bytes that were left."""
    reader, left = LineReader(limit), b""
    for chunk in chunks:
        assert 0 <= reader.n_missing <= limit
        n_taken = reader.take(chunk)
        assert 0 <= n_taken <= len(chunk)
        left += chunk[n_taken:]
    return reader.line, left


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=20), st.integers(1, 60))
def test_the_first_line_is_the_same_however_the_stream_is_cut(chunks: list[bytes], limit: int) -> None:
    whole = b"".join(chunks)
    line, newline, rest = whole.partition(b"\n")
    try:
        found = read(chunks, limit)
    except MalformedPacket:
        assert len(line) >= limit
    else:
        assert len(line) < limit
        assert found == ((line, rest) if newline else (None, b""))


@given(st.lists(st.binary(max_size=30) | st.just(b"\n"), max_size=20), st.integers(1, 60))
def test_any_bytes_are_a_line_or_malformed_and_never_more_than_the_limit_is_held(
    chunks: list[bytes], limit: int
) -> None:
    reader = LineReader(limit)
    n_taken = 0
    for chunk in chunks:
        try:
            n_taken += reader.take(chunk)
        except MalformedPacket:
            assert reader.line is None
            break
        assert n_taken <= limit
        assert reader.line is None or len(reader.line) == n_taken - 1
