"""Where web apps are found: both forms, and what has none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.apps.address import AppAddress, Wildcard, is_app_name, parse_path, port_of

LABELS = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
WILDCARD = Wildcard.parse("*.apps.example.com")


@pytest.mark.parametrize(
    ("path", "app", "rest"),
    [
        ("/@alice/dev/apps/8080/index.html", "8080", "/index.html"),
        ("/@alice/dev/apps/8080/", "8080", "/"),
        ("/@alice/dev/apps/8080", "8080", ""),
        ("/@alice/dev/apps/docs/a%2Fb/../c", "docs", "/a%2Fb/../c"),
    ],
)
def test_a_path_leads_to_an_app_and_the_rest_is_left_as_it_was_sent(path: str, app: str, rest: str) -> None:
    assert parse_path(path) == (AppAddress("alice", "dev", app), rest)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/@alice/dev",
        "/@alice/dev/apps/",
        "/@alice/dev/apps/0/",
        "/@alice/dev/apps/65536/",
        "/@alice/dev/apps/08080/",
        "/@Alice/dev/apps/8080/",
        "/%40alice/dev/apps/8080/",
        "/@alice/../apps/8080/",
        "//@alice/dev/apps/8080/",
        "/@alice/dev/apps/a--b/",
        "/@alice/dev/apps/8080x%00/",
    ],
)
def test_other_paths_lead_to_none(path: str) -> None:
    assert parse_path(path) is None


@given(LABELS, LABELS, st.integers(1, 65535).map(str) | LABELS.filter(is_app_name))
def test_an_apps_host_leads_back_to_it(owner: str, workspace: str, app: str) -> None:
    address = AppAddress(owner, workspace, app)
    host = WILDCARD.host_of(address)
    if host is None:
        assert len(f"{app}--{workspace}--{owner}") > 63 or any(
            "--" in part for part in (app, workspace, owner)
        )
        return
    for shown in (host, host.upper(), f"{host}:3000"):
        assert WILDCARD.covers(shown)
        assert WILDCARD.parse_host(shown) == address


@given(st.text(max_size=80))
def test_any_text_is_a_host_or_none(text: str) -> None:
    found = WILDCARD.parse_host(text + WILDCARD.suffix)
    assert found is None or WILDCARD.host_of(found) == (text + WILDCARD.suffix).lower()


@given(st.text(max_size=80))
def test_any_text_is_a_path_or_none(text: str) -> None:
    for path in (text, f"/@{text}", f"/@alice/dev/apps/{text}"):
        if (found := parse_path(path)) is not None:
            assert path == found[0].prefix + found[1]


def test_the_wildcard_may_share_a_label_with_the_app() -> None:
    wildcard, address = Wildcard.parse("*-apps.example.com"), AppAddress("alice", "dev", "8080")
    assert wildcard.host_of(address) == "8080--dev--alice-apps.example.com"
    assert wildcard.parse_host("8080--dev--alice-apps.example.com") == address
    assert not wildcard.covers("apps.example.com")
    long = AppAddress("a" * 30, "d" * 22, "8080")
    assert WILDCARD.host_of(long) is not None
    assert wildcard.host_of(long) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "apps.example.com",
        "*",
        "*.com",
        "*.*.example.com",
        "a*.example.com",
        "https://*.example.com",
        "*.example.com:3000",
        "*.exa mple.com",
    ],
)
def test_what_is_no_wildcard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        Wildcard.parse(text)


def test_a_port_is_written_in_one_way_only() -> None:
    assert [port_of(text) for text in ("8080", "080", "0", "65536", "٣", "x")] == [8080, *[None] * 5]
