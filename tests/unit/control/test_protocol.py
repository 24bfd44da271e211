import itertools

import msgspec
import pytest

from coderd.control import protocol
from coderd.control.messages import (
    METHODS,
    PING,
    SPEEDTEST,
    STATUS,
    UP,
    Access,
    Done,
    PathBytes,
    PeerPath,
    PeerStatus,
    PingParams,
    Pong,
    Progress,
    Status,
    StatusParams,
    UpParams,
)
from coderd.control.protocol import (
    MAX_LINE,
    AnswerReader,
    Caller,
    Event,
    LineSplitter,
    Refusal,
    Result,
    encode_error,
    encode_event,
    encode_request,
    encode_result,
    is_allowed,
    parse_request,
    refusal,
)
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind
from tests.control_answers import parse_answer

OPERATOR, GROUP = 1000, 990

CALLERS = {
    "root": Caller(0, 0, frozenset()),
    "operator": Caller(OPERATOR, OPERATOR, frozenset()),
    "member": Caller(1001, 1001, frozenset({27, GROUP})),
    "member by primary group": Caller(1002, GROUP, frozenset()),
    "other": Caller(1003, 1003, frozenset({27})),
    "nobody knows": None,
}
USE = {"status", "ping", "netcheck", "why", "derp-map", "speedtest", "port-forward", "nc"}
MANAGE = {"up", "down", "logout", "debug"}
ALLOWED = {
    "root": USE | MANAGE,
    "operator": USE | MANAGE,
    "member": USE,
    "member by primary group": USE,
    "other": set[str](),
    "nobody knows": set[str](),
}


def test_the_table_of_rights_covers_every_method() -> None:
    assert set(METHODS) == USE | MANAGE


@pytest.mark.parametrize(("who", "method"), list(itertools.product(CALLERS, METHODS)))
def test_who_may_do_what(who: str, method: str) -> None:
    allowed = is_allowed(METHODS[method].access, CALLERS[who], operator_uid=OPERATOR, group_gid=GROUP)
    assert allowed == (method in ALLOWED[who])


def test_without_group_and_operator_only_root_may_anything() -> None:
    allowed = {
        who
        for who, caller in CALLERS.items()
        for access in Access
        if is_allowed(access, caller, operator_uid=None, group_gid=None)
    }
    assert allowed == {"root"}


def test_a_refusal_says_how_to_get_the_right() -> None:
    assert "usermod" in refusal(METHODS["status"]).hint
    assert "--operator" in refusal(METHODS["up"]).hint
    assert refusal(METHODS["up"]).exit_code is Exit.REFUSED


def test_a_request_comes_out_as_it_went_in() -> None:
    line = encode_request(7, PING, PingParams(peer="dev", count=3))
    request = parse_request(line)
    assert (request.id, request.method) == (7, METHODS["ping"])
    assert request.params == PingParams(peer="dev", count=3)


def test_unknown_fields_are_ignored_and_params_may_be_missing() -> None:
    request = parse_request(b'{"v":1,"id":0,"method":"status","more":[1]}')
    assert request.params == StatusParams()


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (b"", "malformed", None),
        (b"GET / HTTP/1.1\r", "malformed", None),
        (b'{"v":1,"id":-1,"method":"status"}', "malformed", None),
        (b'{"v":1,"id":"x","method":"status"}', "malformed", None),
        (b"[" * 100_000, "malformed", None),
        (b"\xff\xfe", "malformed", None),
        (b'{"v":2,"id":1,"method":"status"}', "unsupported_version", 1),
        (b'{"v":1,"id":2,"method":"reboot"}', "unknown_method", 2),
        (b'{"v":1,"id":3,"method":"ping","params":{}}', "bad_params", 3),
        (b'{"v":1,"id":3,"method":"ping","params":{"peer":""}}', "bad_params", 3),
        (b'{"v":1,"id":3,"method":"ping","params":{"peer":"dev","interval_s":0}}', "bad_params", 3),
        (b'{"v":1,"id":3,"method":"nc","params":{"peer":"dev","port":65536}}', "bad_params", 3),
        (b'{"v":1,"id":3,"method":"debug","params":{"action":"explode"}}', "bad_params", 3),
    ],
)
def test_what_is_no_request_is_refused_with_its_reason(
    line: bytes, code: str, request_id: int | None
) -> None:
    with pytest.raises(Refusal) as caught:
        parse_request(line)
    assert (caught.value.code, caught.value.request_id) == (code, request_id)


def test_events_and_results_find_their_types() -> None:
    pong = Pong(seq=1, path=PathKind.DIRECT, via="192.0.2.1:41641", latency_ms=9.5)
    assert parse_answer(PING, 7, b"".join(encode_event(7, pong))) == Event(pong)
    moved = PathBytes(tx_direct_bytes=1, tx_relay_bytes=2, rx_direct_bytes=3, rx_relay_bytes=4)
    assert parse_answer(SPEEDTEST, 7, b"".join(encode_event(7, moved))) == Event(moved)
    status = Status(version="1", state="down", interface="coder0")
    assert parse_answer(STATUS, 7, b"".join(encode_result(7, status))) == Result(status)


def test_an_error_keeps_its_code_hint_and_exit() -> None:
    error = UserError("dev is offline", exit_code=Exit.NO_PATH, hint="start it", code="offline")
    with pytest.raises(UserError) as caught:
        parse_answer(PING, 7, encode_error(7, error))
    seen = caught.value
    assert (seen.message, seen.exit_code, seen.hint, seen.code) == (
        "dev is offline",
        Exit.NO_PATH,
        "start it",
        "offline",
    )


def test_an_error_of_a_newer_daemon_ends_with_1() -> None:
    line = b'{"id":1,"error":{"code":"new","exit":77,"message":"new"}}'
    with pytest.raises(UserError) as caught:
        parse_answer(PING, 1, line)
    assert caught.value.exit_code is Exit.FAILED


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"id":1}',
        b'{"id":2,"result":{}}',
        b'{"id":1,"result":{"sent":"x"}}',
        b'{"id":1,"event":3}',
    ],
)
def test_an_answer_out_of_form_is_malformed(line: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse_answer(PING, 1, line)


def test_a_line_may_have_a_mebibyte_and_no_more() -> None:
    assert list(LineSplitter().feed(b"x" * (MAX_LINE - 1) + b"\n")) == [b"x" * (MAX_LINE - 1)]
    with pytest.raises(MalformedPacket):
        list(LineSplitter().feed(b"x" * MAX_LINE))
    with pytest.raises(MalformedPacket):
        list(LineSplitter().feed(b"x" * MAX_LINE + b"\n"))


def test_the_token_of_up_does_not_show_itself() -> None:
    params = UpParams(url="http://192.0.2.10:3000", token="cdrs_secret")
    assert "secret" not in repr(params)
    assert "secret" not in str(params)
    assert parse_request(encode_request(1, UP, params)).params == params


def test_the_status_names_its_self_as_the_documents_do() -> None:
    text = msgspec.json.encode(Status(version="1", state="running", interface="coder0"))
    assert set(msgspec.json.decode(text)) == {
        "version",
        "state",
        "interface",
        "self",
        "server",
        "home_region",
        "relays",
        "endpoints",
        "udp_port",
        "peers",
        "counters",
        "batches",
        "health",
    }


def status_of(n_peers: int) -> Status:
    peer = PeerStatus(
        name="ann/" + "w" * 63,
        id="5f0c2a52-6b43-4f0e-9d5e-0c7f7f0e8a11",
        kind=NodeKind.WORKSPACE,
        address="fd60:627a:a42b:2f01:2f01:2f01:2f01:1",
        online=True,
        node_key="nodekey:" + "0" * 64,
        path=PeerPath(kind=PathKind.DIRECT, via="[2001:db8::1]:41641", latency_ms=12.5),
    )
    return Status(version="1", state="running", interface="coder0", peers=(peer,) * n_peers)


@pytest.mark.parametrize("n_peers", [3_000, 20_000])
def test_an_answer_of_any_size_comes_in_lines_that_are_none_too_long(n_peers: int) -> None:
    status = status_of(n_peers)
    reader, splitter = AnswerReader(STATUS, 7), LineSplitter()
    lines = list(encode_result(7, status))
    assert len(lines) > 1
    assert max(map(len, lines)) <= MAX_LINE
    answers = [reader.read(line) for each in lines for line in splitter.feed(each)]
    assert answers == [*[None] * (len(lines) - 1), Result(status)]


def test_an_answer_that_fits_a_line_is_what_the_last_release_reads() -> None:
    assert list(encode_result(7, Done())) == [b'{"id":7,"result":{}}\n']
    assert len(list(encode_result(7, status_of(1_000)))) == 1
    assert len(list(encode_event(7, Pong(seq=1)))) == 1


def test_an_answer_in_parts_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_WHOLE", 3)
    reader = AnswerReader(STATUS, 7)
    assert reader.read(b'{"id":7,"part":"abc"}') is None
    with pytest.raises(MalformedPacket):
        reader.read(b'{"id":7,"part":"d"}')
    for line in (
        b'{"id":8,"part":"{}"}',
        b'{"id":7,"whole":"result"}',
        b'{"id":7,"whole":"all"}',
        b'{"id":7,"part":1}',
    ):
        with pytest.raises(MalformedPacket):
            AnswerReader(STATUS, 7).read(line)


def test_letters_that_are_long_as_bytes_fit_too() -> None:
    for letter in ("\\", '"', "\u0001", "é", "名", "🙂"):
        error = Progress(text=letter * MAX_LINE)
        lines = list(encode_event(7, error))
        assert max(map(len, lines)) <= MAX_LINE
        reader = AnswerReader(UP, 7)
        assert [reader.read(line) for line in lines][-1] == Event(error)
