"""HTTP heads: what decides where a connection goes."""

import pytest

from coderd.http.head import find_head_end, parse_request_head, parse_response_head
from coderd.model.errors import MalformedPacket


def request(*lines: str, first: str = "GET /derp HTTP/1.1") -> bytes:
    return "\r\n".join((first, *lines, "", "")).encode("latin-1")


@pytest.mark.parametrize(
    ("head", "is_derp"),
    [
        (request("Upgrade: DERP"), True),
        (request("upgrade:derp"), True),
        (request("Upgrade: DERP", first="POST /derp?x=1 HTTP/1.0"), True),
        (request("Upgrade: websocket"), True),
        (request("Upgrade: websocket", "Sec-WebSocket-Protocol: a, derp"), True),
        (request("Upgrade: websocket", first="GET /api/v1/coordinate HTTP/1.1"), False),
        (request("Upgrade: h2c"), False),
        (request(), False),
        (request("Upgrade: DERP", first="GET /derp/ HTTP/1.1"), False),
        (request("Upgrade: DERP", first="GET /other HTTP/1.1"), False),
    ],
)
def test_an_upgrade_to_derp_at_its_path_is_recognised(head: bytes, is_derp: bool) -> None:
    assert parse_request_head(head).wants_derp() is is_derp


def test_derp_goes_in_messages_only_for_a_websocket_that_names_it() -> None:
    named = request("Upgrade: WebSocket", "Sec-WebSocket-Protocol: a, derp")
    assert parse_request_head(named).wants_derp_in_websocket()
    assert not parse_request_head(request("Upgrade: websocket")).wants_derp_in_websocket()
    assert not parse_request_head(
        request("Upgrade: DERP", "Sec-WebSocket-Protocol: derp")
    ).wants_derp_in_websocket()


@pytest.mark.parametrize("blank", [b"\r\n\r\n", b"\n\n", b"\r\n\n"])
def test_the_blank_line_is_found_wherever_the_pieces_are_cut(blank: bytes) -> None:
    data = b"GET / HTTP/1.1\r\nA: b" + blank + b"body"
    end = len(data) - 4
    assert find_head_end(data) == end
    for cut in range(len(data)):
        if find_head_end(data[:cut]) < 0:
            assert find_head_end(data, cut) == end


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_malformed(head: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse_request_head(head)


def test_a_responses_status_is_read() -> None:
    assert parse_response_head(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n\r\n").status == 101
    with pytest.raises(MalformedPacket):
        parse_response_head(b"SSH-2.0-OpenSSH\r\n\r\n")
