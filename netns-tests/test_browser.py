"""A person with nothing but a browser.

A real Chromium behind the user's NAT, the server's pages, and an app of a workspace.

::

    user, Chromium ──[NAT]── core ──[NAT]── dev, with an app on its loopback
                              │
                       server, run by nobody
"""

import hashlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser_on
from lab import Lab
from playwright.sync_api import Playwright, expect
from test_web_apps import serve_without_root, start_app

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

SIZE = 50_000_000
APPS = "apps.example.com"
FORGETFUL = """
table inet forgetful {}
delete table inet forgetful
table inet forgetful {
    chain forward {
        type filter hook forward priority -40
        meta l4proto tcp reject with tcp reset
    }
}"""
HERS = f"8080--dev--admin.{APPS}"


@pytest.fixture(params=["easy-nat", "udp-blocked"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A server that nobody knows yet."""
    with Lab(request.param) as lab:
        serve_without_root(lab)
        lab.server.start("--wildcard-access-url", f"*.{APPS}")
        yield lab


@pytest.fixture
def browser(lab: Lab, playwright: Playwright, tmp_path: Path) -> Iterator[Browser]:
    names = {f"*.{APPS}": lab.server.address}
    with browser_on(lab.user.host, playwright, tmp_path, names=names) as browser:
        yield browser
        assert not browser.errors


def sign_in(browser: Browser, lab: Lab) -> None:
    """At the server's page, at the second attempt."""
    page = browser.page
    page.goto(f"{lab.server.url}/")
    browser.take_pictures("sign-in")
    page.get_by_label("Session token").fill("coder_nobodys")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Session token").fill(lab.server.admin_token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No workspaces yet.")).to_be_visible()


def create_workspace(browser: Browser, lab: Lab) -> None:
    """On the dashboard; its machine joins by the line that is shown once, and the page shows it by itself."""
    page = browser.page
    page.get_by_label("New workspace").fill("dev")
    page.get_by_role("button", name="Create").click()
    line = page.locator("pre.secret").inner_text()
    browser.take_pictures("workspace-made")
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_text("offline", exact=True)).to_be_visible()
    join_by(line, lab)
    start_app(lab)
    expect(page.get_by_text("online", exact=True)).to_be_visible()
    browser.take_pictures("workspaces")


def join_by(line: str, lab: Lab) -> None:
    """What the line says, where there is neither sudo nor a socket of one's own.

    The token is handed over by file.
    """
    _, token, _, *command = shlex.split(line)
    assert command[:3] == ["sudo", "coderd", "run"]
    assert command[-2:] == ["--token-file", "-"]
    lab.dev.put(lab.dev.token_file, token)
    lab.dev.start(*command[3:-1], lab.dev.token_file, "--terminal", "--terminal-user", "root")


def use_app(browser: Browser, lab: Lab) -> None:
    """By the dashboard at its path; then at its own host a page, its WebSocket, and an upload from a file."""
    page = browser.page
    page.get_by_text("More").first.click()
    browser.take_pictures("workspace")
    page.get_by_label("Web app").fill("8080")
    page.get_by_role("button", name="Open").click()
    page.wait_for_url(f"{lab.server.url}/@admin/dev/apps/8080/")
    port = lab.server.url.rpartition(":")[2]
    page.goto(f"http://{HERS}:{port}/page")
    expect(page.get_by_text("echoed: hello")).to_be_visible()
    expect(page.get_by_text("cookies: none")).to_be_visible()
    browser.take_pictures("app")
    body = browser.pictures / "body"
    body.write_bytes(bytes(SIZE))
    page.get_by_label("File").set_input_files(body)
    expect(page.get_by_text(re.compile("^uploaded"))).to_have_text(
        f"uploaded: {SIZE} bytes, {hashlib.sha256(bytes(SIZE)).hexdigest()}"
    )


def cut_and_restore(browser: Browser, lab: Lab) -> None:
    """The user's link goes, and comes back: the app's page says so, and goes on by itself."""
    page = browser.page
    lab.user.host.ip("link set eth0 down")
    expect(page.get_by_text("echoed: lost")).to_be_visible()
    lab.user.host.ip("link set eth0 up", "route add default via 10.0.1.1")
    expect(page.get_by_text("echoed: hello")).to_be_visible()


def work_in_terminal(browser: Browser, lab: Lab) -> None:
    """A shell, still there with what it knew after the router has forgotten every connection."""
    page = browser.page
    page.goto(f"{lab.server.url}/")
    page.get_by_role("link", name="Terminal").click()
    state, rows = page.get_by_role("status"), page.locator(".xterm-rows")
    expect(state).to_have_text("connected")
    page.keyboard.type("mark=$((6 * 7)); echo it is $mark\n")
    expect(rows).to_contain_text("it is 42")
    router = lab.internet.routers["user"]
    router.nft(FORGETFUL)
    expect(state).to_contain_text("reconnecting")
    router.nft("delete table inet forgetful")
    expect(state).to_have_text("connected")
    page.keyboard.type("echo still $mark\n")
    expect(rows).to_contain_text("still 42")
    expect(rows).to_contain_text("it is 42")
    browser.take_pictures("terminal")
    page.keyboard.type("exit\n")
    expect(page.get_by_role("button", name="New shell")).to_be_visible()


def look_around(browser: Browser, lab: Lab) -> None:
    """Every other page of the dashboard, by its link; then out, after which nothing is shown any more."""
    page = browser.page
    page.goto(f"{lab.server.url}/")
    for name in page.get_by_role("navigation").get_by_role("link").all_inner_texts():
        page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        expect(page.locator("[aria-current=page]")).to_have_text(name)
        browser.take_pictures(f"page-{name.lower().replace(' ', '-')}")
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{lab.server.url}/audit")
    expect(page.get_by_label("Session token")).to_be_visible()


def test_a_person_with_nothing_but_a_browser(lab: Lab, browser: Browser) -> None:
    sign_in(browser, lab)
    create_workspace(browser, lab)
    use_app(browser, lab)
    cut_and_restore(browser, lab)
    work_in_terminal(browser, lab)
    look_around(browser, lab)
