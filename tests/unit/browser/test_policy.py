"""The policies of all pages for browsers.

What they need, and nothing that an app in the path form could answer.
"""

import re
from pathlib import Path

import pytest

from coderd.browser.io.sign_in import LOGIN
from coderd.browser.pages import policy as message_policy
from coderd.browser.policy import exact
from coderd.config.url import ServerUrl, parse_server_url
from coderd.dashboard.io.dashboard_site import policy as dashboard_policy
from coderd.dashboard.table import ACTIONS, PAGES
from coderd.webterminal.page import policy as terminal_policy
from coderd.webterminal.page import terminal_page
from tests.csp import allows

URL = parse_server_url("https://coder.example:3000")
ORIGIN = str(URL)
APP = f"{ORIGIN}/@bob/dev/apps/8000/x"
POLICIES = {
    "dashboard": dashboard_policy(URL, "/machines"),
    "dashboard, not live": dashboard_policy(URL),
    "terminal": terminal_policy(URL, "bm9uY2U=", "/@ann/dev/terminal/ws"),
    "no terminal": terminal_policy(URL, "bm9uY2U="),
    "sign in": message_policy(form_action=exact(URL, LOGIN)),
    "a sentence": message_policy(),
}


@pytest.mark.parametrize("page", POLICIES)
def test_no_page_of_the_servers_loads_asks_or_sends_to_an_app_of_its_host(page: str) -> None:
    for directive in ("script-src", "style-src", "connect-src", "img-src", "form-action", "frame-src"):
        for url in (APP, APP.replace("https", "wss"), f"{ORIGIN}/", f"{ORIGIN}/@bob/dev/apps/8000/"):
            assert not allows(POLICIES[page], directive, url, ORIGIN), directive
    assert "frame-ancestors 'none'; base-uri 'none'" in POLICIES[page]


def test_the_matcher_knows_what_self_would_have_let_in() -> None:
    assert allows("default-src 'none'; script-src 'self'", "script-src", APP, ORIGIN)
    assert allows("default-src 'none'; connect-src https://coder.example:3000/", "connect-src", APP, ORIGIN)


def test_the_dashboard_may_do_what_it_does() -> None:
    policy = POLICIES["dashboard"]
    assert allows(policy, "script-src", f"{ORIGIN}/static/live.js", ORIGIN)
    assert allows(policy, "style-src", f"{ORIGIN}/static/dashboard.css", ORIGIN)
    assert allows(policy, "connect-src", f"{ORIGIN}/machines?find=dev", ORIGIN)
    for path in (
        *(action.path for action in ACTIONS),
        *(page.own_path for page in PAGES),
        "/open",
        "/logout",
    ):
        assert allows(policy, "form-action", f"{ORIGIN}{path}?x=1", ORIGIN), path


def test_a_terminal_may_load_its_files_and_open_its_own_socket() -> None:
    policy = POLICIES["terminal"]
    page = terminal_page("ann/dev", "bm9uY2U=")
    scripts = re.findall(r'src="(/[^"]+)"', page)
    styles = re.findall(r'rel="stylesheet" href="(/[^"]+)"', page)
    assert scripts
    assert styles
    assert all(allows(policy, "script-src", ORIGIN + path, ORIGIN) for path in scripts)
    assert all(allows(policy, "style-src", ORIGIN + path, ORIGIN) for path in styles)
    assert allows(policy, "connect-src", "wss://coder.example:3000/@ann/dev/terminal/ws", ORIGIN)
    assert not allows(policy, "connect-src", "wss://coder.example:3000/@ann/lab/terminal/ws", ORIGIN)
    assert "ws://192.0.2.1:3000/@a/b/terminal/ws" in terminal_policy(
        parse_server_url("http://192.0.2.1:3000"), "x", "/@a/b/terminal/ws"
    )


def test_a_path_that_would_name_more_than_itself_is_refused() -> None:
    for path in ("/", "/static/", "/a;b", "/a b", "a"):
        with pytest.raises(ValueError, match="exact"):
            exact(URL, path)


def test_a_bare_ipv6_address_cannot_be_named() -> None:
    assert exact(ServerUrl("http", "2001:db8::1", 3000), "/login") == "'self'"


def test_self_stands_in_no_policy_but_there() -> None:
    """A directive with ``'self'`` would let path apps in again."""
    root = Path(__file__).parents[3] / "coderd"
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"-src[^;]*'self'|form-action[^;]*'self'", path.read_text(encoding="utf-8"))
    }
    assert found == set()
