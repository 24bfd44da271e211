"""Whose request a proxy hands on: only named proxies are believed, and only what they themselves wrote."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.http.forwarded import MAX_HOPS, NO_PROXIES, TrustedProxies

PROXIES = TrustedProxies((ip_network("10.0.0.0/8"), ip_network("fd00::/8")))


def forwarded(*values: str) -> list[tuple[str, str]]:
    return [("host", "coder.example.com"), *(("x-forwarded-for", value) for value in values)]


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("10.0.0.5", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.5", ["1.2.3.4, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.5", ["1.2.3.4, 203.0.113.7, 10.0.0.9"], "203.0.113.7"),
        ("10.0.0.5", ["1.2.3.4", "203.0.113.7"], "203.0.113.7"),
        ("10.0.0.5", ["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
        ("10.0.0.5", [], "10.0.0.5"),
        ("10.0.0.5", ["nonsense"], "10.0.0.5"),
        ("10.0.0.5", ["203.0.113.7, nonsense"], "10.0.0.5"),
        ("10.0.0.5", ["203.0.113.7:4711"], "203.0.113.7"),
        ("10.0.0.5", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.0.0.5", ["::ffff:203.0.113.7"], "203.0.113.7"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("192.0.2.1", ["203.0.113.7"], "192.0.2.1"),
    ],
)
def test_the_client_is_the_last_who_is_no_proxy_of_ours(peer: str, values: list[str], client: str) -> None:
    assert PROXIES.client_of(peer, forwarded(*values)) == client


def test_without_named_proxies_nobody_is_believed() -> None:
    assert NO_PROXIES.client_of("127.0.0.1", forwarded("203.0.113.7")) == "127.0.0.1"
    assert NO_PROXIES.scheme_of("127.0.0.1", [("x-forwarded-proto", "https")], "http") == "http"


@given(st.text(), st.ip_addresses().map(str))
def test_what_a_client_writes_before_a_proxy_changes_nothing(written: str, client: str) -> None:
    if PROXIES.trusts(client) or "%" in client:
        return
    told = PROXIES.client_of("10.0.0.5", forwarded(f"{written}, {client}"))
    assert told == PROXIES.client_of("10.0.0.5", forwarded(client))


@given(st.lists(st.text(), max_size=40))
def test_any_text_is_read_or_passed_by(values: list[str]) -> None:
    PROXIES.client_of("10.0.0.5", forwarded(*values))


def test_a_tale_of_many_proxies_is_cut() -> None:
    hops = ["203.0.113.7", *(["10.0.0.9"] * MAX_HOPS)]
    assert PROXIES.client_of("10.0.0.5", forwarded(", ".join(hops))) == "10.0.0.9"


def test_other_headers_count_only_where_they_are_named() -> None:
    fields = [("cf-connecting-ip", "203.0.113.7"), ("x-forwarded-for", "198.51.100.2")]
    named = TrustedProxies(PROXIES.origins, ("cf-connecting-ip",))
    assert named.client_of("10.0.0.5", fields) == "203.0.113.7"
    assert PROXIES.client_of("10.0.0.5", fields) == "198.51.100.2"


def test_a_trusted_proxy_says_whether_its_client_spoke_tls() -> None:
    fields = [("x-forwarded-proto", "https")]
    assert PROXIES.scheme_of("10.0.0.5", fields, "http") == "https"
    assert PROXIES.scheme_of("10.0.0.5", [("x-forwarded-proto", "gopher")], "http") == "http"
    assert PROXIES.scheme_of("192.0.2.1", fields, "http") == "http"
