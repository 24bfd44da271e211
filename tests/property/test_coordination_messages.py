"""Whatever arrives is a message or malformed, at both ends; every message survives the wire."""

import contextlib
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from coderd.config.url import parse_server_url
from coderd.coordination.message import (
    Alive,
    Endpoint,
    Goodbye,
    Hello,
    NodeMessage,
    PathReport,
    Ready,
    Update,
    encode_message,
    parse_node_message,
    parse_server_message,
)
from coderd.coordination.netmap_client import NetMapClient
from coderd.coordination.proof import is_proof
from coderd.coordination.resume import is_resume_token
from coderd.coordination.saved_netmap import decode_netmap
from coderd.model.errors import MalformedPacket, UserError
from coderd.model.keys import NodePrivate

SERVER = NodePrivate(bytes(range(32)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
TYPES = ["hello", "update", "ready", "goodbye", "alive", "challenge", "welcome", "peers", "derp_map", "error"]
FIELDS = [
    "version", "node_key", "disco_key", "generation", "proof", "home_region", "endpoints", "latencies", "ids",
    "path_reports", "handshake_failures", "self", "derp_map", "resume_token", "upsert", "remove", "full", "more", "code", "message", "allowed_ips",
]  # fmt: skip
lookalikes = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(TYPES),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=8),
)
path_reports = st.builds(
    PathReport,
    peer=st.builds(UUID, int=st.integers(0, 2**128 - 1)),
    path=st.text(max_size=16),
    region=st.integers(0, 65535),
    rtt=st.none() | st.floats(0, 3600),
    since=st.floats(0, 1e9),
    time_to_direct=st.none() | st.floats(0, 3600),
    n_changes=st.integers(0, 2**31),
)
messages: st.SearchStrategy[NodeMessage] = st.one_of(
    st.builds(
        Hello,
        version=st.integers(0, 1000),
        node_key=st.text(max_size=80),
        disco_key=st.text(max_size=80),
        generation=st.integers(0, 2**64 - 1),
        proof=st.text(max_size=512),
    ),
    st.builds(
        Update,
        home_region=st.integers(0, 65535),
        endpoints=st.lists(st.builds(Endpoint, st.text(max_size=80), st.integers(0, 255)), max_size=32),
        latencies=st.dictionaries(st.integers(0, 65535), st.floats(0, 3600), max_size=9),
        generation=st.none() | st.integers(0, 2**64 - 1),
        path_reports=st.lists(path_reports, max_size=5),
        handshake_failures=st.dictionaries(st.text(max_size=32), st.integers(0, 2**31), max_size=3),
    ),
    st.builds(Ready, st.lists(st.builds(UUID, int=st.integers(0, 2**128 - 1)), max_size=20)),
    st.just(Goodbye()),
    st.just(Alive()),
)


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_bytes_are_a_message_or_malformed(data: bytes | str) -> None:
    for parse in (parse_node_message, parse_server_message):
        with contextlib.suppress(MalformedPacket):
            parse(data)


@given(lookalikes)
def test_what_looks_like_a_message_is_one_or_malformed_and_never_breaks_the_core(value: object) -> None:
    import msgspec

    text = msgspec.json.encode(value)
    core = NetMapClient(parse_server_url("http://192.0.2.1"))
    try:
        parse_node_message(text)
        core.handle_message(parse_server_message(text))
    except MalformedPacket:
        pass


@given(messages)
def test_every_message_survives_the_wire(message: NodeMessage) -> None:
    assert parse_node_message(encode_message(message)) == message


@given(st.binary(max_size=200))
def test_no_bytes_break_the_saved_netmap(data: bytes) -> None:
    decode_netmap(data, "http://192.0.2.1")


@given(st.text(max_size=200))
def test_no_text_breaks_proofs_resume_tokens_or_urls(text: str) -> None:
    assert not is_proof(text, SERVER.public(), SERVER, bytes(32), bytes(32))
    assert not is_resume_token(text, SERVER, UUID(int=1), SERVER.public(), 0.0)
    with contextlib.suppress(UserError):
        parse_server_url(text)


@given(st.from_regex(r"https?://[^\s]{0,30}", fullmatch=True))
def test_a_url_that_is_accepted_reads_itself_again(text: str) -> None:
    try:
        url = parse_server_url(text)
    except UserError:
        return
    assert parse_server_url(str(url)) == url
