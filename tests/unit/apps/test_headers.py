"""What passes between browser and app, and what stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.apps.headers import (
    SANDBOX,
    Headers,
    Hop,
    answer_headers,
    bearer,
    request_headers,
)
from coderd.browser.requests import SESSION_COOKIES, cookie

HOP = Hop("198.51.100.7", "https")
BY_PATH = Hop("198.51.100.7", "https", "/@alice/dev/apps/8080", is_sandboxed=True)
TOKEN = b"Bearer cdrs_" + b"x" * 43

VALUES = st.binary(max_size=30).filter(lambda value: not set(value) & set(b"\r\n\0"))
NAMES = st.sampled_from(
    [
        b"cookie",
        b"authorization",
        b"connection",
        b"x-forwarded-for",
        b"x_forwarded_for",
        b"x-forwarded_for",
        b"proxy",
        b"forwarded",
        b"te",
        b"upgrade",
        b"accept",
        b"host",
    ]
)


def get(headers: Headers, name: bytes) -> list[bytes]:
    return [value for field, value in headers if field == name]


def test_neither_session_nor_token_reaches_the_app_but_its_own_do() -> None:
    sent = [
        (b"cookie", b"a=1; coderd_session=secret; __Host-coderd_app=secret; b=2"),
        (b"cookie", b"__host-coderd_session=secret"),
        (b"authorization", TOKEN),
    ]
    passed = request_headers(sent, HOP)
    assert get(passed, b"cookie") == [b"a=1; b=2"]
    assert get(passed, b"authorization") == []
    assert b"secret" not in b"".join(value for _, value in passed)
    assert get(request_headers([(b"authorization", b"Bearer of-the-app")], HOP), b"authorization") == [
        b"Bearer of-the-app"
    ]


def test_nobody_passes_for_another_client() -> None:
    sent = [
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-user", b"root"),
        (b"forwarded", b"for=192.0.2.1"),
        (b"x-real-ip", b"192.0.2.1"),
        (b"connection", b"close, x-forwarded-host, x-hop"),
        (b"x-hop", b"1"),
        (b"host", b"8080--dev--alice.apps.example.com"),
    ]
    passed = request_headers(sent, HOP)
    assert get(passed, b"x-forwarded-for") == [b"198.51.100.7"]
    assert get(passed, b"x-forwarded-proto") == [b"https"]
    assert get(passed, b"x-forwarded-host") == [b"8080--dev--alice.apps.example.com"]
    assert not any(
        get(passed, name)
        for name in (b"x-forwarded-user", b"forwarded", b"x-real-ip", b"x-hop", b"connection")
    )


@pytest.mark.parametrize(
    "name",
    [
        b"x_forwarded_for",
        b"x-forwarded_for",
        b"x_real_ip",
        b"x.real.ip",
        b"x_forwarded_user",
        b"proxy",
        b"proxy_authorization",
        b"transfer_encoding",
        b"content_length",
        b"content_type",
        b"sec_fetch_site",
        b"x_hop",
        b"client-ip",
        b"remote_user",
        b"x_auth_request_email",
        b"cf-connecting-ip",
    ],
)
def test_no_spelling_becomes_the_variable_of_a_header_that_is_the_servers(name: bytes) -> None:
    """As CGI and WSGI fold names; whoever compares them by another rule finds no more than that."""
    sent = [(b"connection", b"x-hop"), (name, b"192.0.2.1"), (b"x_own_name", b"1")]
    passed = request_headers(sent, HOP)
    assert b"192.0.2.1" not in [value for _, value in passed]
    assert get(passed, b"x_own_name") == [b"1"]


def test_framing_is_made_anew() -> None:
    assert get(request_headers([(b"transfer-encoding", b"gzip, chunked")], HOP), b"transfer-encoding") == [
        b"chunked"
    ]
    both = request_headers([(b"transfer-encoding", b"chunked"), (b"content-length", b"3")], HOP)
    assert (get(both, b"transfer-encoding"), get(both, b"content-length")) == ([], [b"3"])
    named = request_headers([(b"connection", b"content-length"), (b"content-length", b"3")], HOP)
    assert get(named, b"content-length") == [b"3"]


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_whatever_is_sent_nothing_of_ours_passes(sent: Headers) -> None:
    passed = request_headers(
        [*sent, (b"cookie", b"coderd_session=secret"), (b"authorization", TOKEN)], BY_PATH
    )
    assert get(passed, b"x-forwarded-for") == [b"198.51.100.7"]
    assert b"coderd_session" not in b"".join(get(passed, b"cookie")).lower() or any(
        b"coderd_session" in value.lower() for name, value in sent if name == b"cookie"
    )
    assert TOKEN not in get(passed, b"authorization")
    variables = [name.replace(b"-", b"_") for name, _ in passed]
    assert variables.count(b"x_forwarded_for") == 1
    assert b"proxy" not in variables
    assert not any(get(passed, name) for name in (b"te", b"upgrade", b"forwarded", b"connection"))
    answer_headers(sent, BY_PATH)


@pytest.mark.parametrize(
    ("cookie_line", "on_its_host", "by_path"),
    [
        (b"a=1", b"a=1", b"a=1; Path=/@alice/dev/apps/8080/"),
        (
            b"a=1; Path=/x; Domain=example.com; Secure",
            b"a=1; Secure; Path=/x",
            b"a=1; Secure; Path=/@alice/dev/apps/8080/x",
        ),
        (b"a=1; path=x; DOMAIN=.com", b"a=1", b"a=1; Path=/@alice/dev/apps/8080/"),
        (b"coderd_session=1", None, None),
        (b"__host-CODERD_app=1; Path=/", None, None),
        (b"=__Host-coderd_session=1", None, None),
        (b"nameless", None, None),
    ],
)
def test_a_cookie_is_the_apps_own_alone(
    cookie_line: bytes, on_its_host: bytes | None, by_path: bytes | None
) -> None:
    for hop, expected in ((HOP, on_its_host), (BY_PATH, by_path)):
        assert get(answer_headers([(b"set-cookie", cookie_line)], hop), b"set-cookie") == (
            [] if expected is None else [expected]
        )


def test_on_the_servers_host_an_app_speaks_for_its_prefix_only_and_from_a_sandbox() -> None:
    sent = [
        (b"location", b"/login"),
        (b"clear-site-data", b'"cookies"'),
        (b"service-worker-allowed", b"/"),
        (b"strict-transport-security", b"max-age=1"),
        (b"content-security-policy", b"default-src *"),
        (b"alt-svc", b'h3=":443"'),
    ]
    passed = answer_headers(sent, BY_PATH)
    assert get(passed, b"location") == [b"/@alice/dev/apps/8080/login"]
    assert get(passed, b"content-security-policy") == [b"default-src *", SANDBOX]
    assert {name for name, _ in passed} == {b"location", b"content-security-policy"}
    own = answer_headers(sent, HOP)
    assert get(own, b"location") == [b"/login"]
    assert get(own, b"content-security-policy") == [b"default-src *"]
    assert get(own, b"alt-svc") == []
    elsewhere = [
        (b"location", b"//evil.example/"),
        (b"location", b"https://example.com/"),
        (b"location", b"x"),
    ]
    assert answer_headers(elsewhere, Hop("", "http", "/@a/b/apps/1")) == elsewhere


def test_cookies_and_tokens_are_found() -> None:
    sent = [
        (b"cookie", b"a=1; coderd_session=x=y"),
        (b"cookie", b"coderd_session=z"),
        (b"authorization", TOKEN),
    ]
    assert cookie(sent, SESSION_COOKIES[0]) == "x=y"
    assert cookie(sent, SESSION_COOKIES[1]) == ""
    assert bearer(sent) == TOKEN.decode().partition(" ")[2]
    assert bearer([(b"authorization", b"Basic cdrs_x")]) == ""
