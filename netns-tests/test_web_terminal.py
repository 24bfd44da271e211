"""A terminal as a person has it who has nothing but a browser.

Bob's Chromium, and a workspace that the admin shares with him.

::

    bob, Chromium ──[NAT]── core ──[NAT]── dev, which offers terminals
                             │
                      server, run by nobody
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser_on
from lab import Lab, until
from playwright.sync_api import Playwright, expect
from test_web_apps import serve_without_root

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.alone("measures how soon a terminal ends"),
]

TEXT = """() => {
    const buffer = terminal.buffer.active, lines = [];
    for (let at = 0; at < buffer.length; at++) lines.push(buffer.getLine(at).translateToString(true));
    return lines.join("\\n");
}"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("easy-nat") as lab:
        serve_without_root(lab)
        lab.server.start()
        token = lab.server.create_workspace("dev")
        lab.dev.join_as_workspace(lab.server.join_url, token, "--terminal", "--terminal-user", "root")
        until(lambda: lab.dev.address, "dev to be given its address")
        yield lab


class Terminal:
    """What is on bob's screen, and what he types."""

    def __init__(self, browser: Browser) -> None:
        self._page = browser.page

    def is_connected(self) -> None:
        expect(self._page.locator("#state")).to_have_text("connected")

    def type(self, line: str) -> None:
        self._page.keyboard.type(line + "\n")

    def shows(self, text: str) -> None:
        until(lambda: text in self._page.evaluate(TEXT), f"the terminal to show {text}")


def sign_in(browser: Browser, lab: Lab, token: str) -> None:
    browser.page.goto(f"{lab.server.url}/@admin/dev/terminal")
    browser.page.get_by_label("Session token").fill(token)
    browser.page.get_by_role("button", name="Sign in").click()


def test_a_shell_by_browser_comes_back_with_its_output_after_the_link_was_cut_and_ends_with_the_share(
    lab: Lab, playwright: Playwright, tmp_path: Path
) -> None:
    bob = lab.server.coderctl("users", "create", "bob").strip()
    lab.server.share("dev", "bob", bob)
    with browser_on(lab.user.host, playwright, tmp_path) as browser:
        sign_in(browser, lab, bob)
        terminal = Terminal(browser)
        terminal.is_connected()
        terminal.type("echo shell is $$; echo $$ > /run/shell")
        terminal.shows("shell is ")
        expect(browser.page.locator("#path")).to_have_text("direct")
        expect(browser.page.locator("#latency")).to_contain_text("ms")
        browser.take_pictures("terminal")
        lab.dev.host.ip("link set eth0 down")
        expect(browser.page.locator("#state")).to_contain_text("reconnecting")
        lab.dev.host.ip("link set eth0 up", "route add default via 10.0.2.1")
        terminal.is_connected()
        terminal.type("echo ba''ck in $$")
        terminal.shows(f"back in {shell_of(lab)}")
        assert is_running(lab)
        until(lambda: is_online(lab), "the workspace to be back at the server")
        browser.page.reload()
        terminal.is_connected()
        terminal.shows(f"shell is {shell_of(lab)}")
        lab.server.coderctl("workspaces", "unshare", "dev", "bob")
        unshared_at = time.monotonic()
        expect(browser.page.get_by_role("alert")).to_contain_text("Your access to this workspace was revoked")
        until(lambda: not is_running(lab), "the shell to end")
        assert time.monotonic() - unshared_at < 6  # two seconds are the aim
        assert not browser.errors


def is_online(lab: Lab) -> bool:
    (workspace,) = json.loads(lab.server.coderctl("workspaces", "list", "--json"))
    return bool(workspace["online"])


def shell_of(lab: Lab) -> str:
    return lab.dev.host.path("/run/shell").read_text(encoding="ascii").strip()


def is_running(lab: Lab) -> bool:
    script = f"kill -0 {shell_of(lab)} 2> /dev/null && echo yes || true"
    return lab.dev.run(["sh", "-c", script]) == "yes\n"
