"""A real Chromium on a machine of the laboratory, driven from the test's own process.

Playwright speaks to Chromium by two pipes that it inherits (3 and 4), and Chromium is started through a
script that first enters the machine's network. So its connections alone are the machine's; the test clicks
and looks as if it were nowhere else.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import Host
from playwright.sync_api import BrowserContext, Page, Playwright

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
TIMEOUT = 20_000
"""Milliseconds for anything that a page shall show or do."""

LAUNCHER = """#!/bin/sh
exec nsenter --net=/proc/{pid}/ns/net -- {chromium} "$@"
"""


@dataclass
class Browser:
    """One person's browser: cookies of its own, one page, and what went wrong in it."""

    context: BrowserContext
    page: Page
    errors: list[str]
    """Exceptions of scripts, and what a page's policy has blocked."""
    pictures: Path

    def take_pictures(self, name: str) -> None:
        """The page as it is on a phone and on a desktop; it must fit both without being pushed sideways."""
        for size in (PHONE, DESKTOP):
            self.page.set_viewport_size(size)  # type: ignore[arg-type]
            self.page.screenshot(path=self.pictures / f"{name}-{size['width']}.png", full_page=True)
            width = self.page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{name} is {width} wide where {size['width']} are there"


@contextmanager
def browser_on(
    host: Host, playwright: Playwright, directory: Path, *, names: dict[str, str] | None = None
) -> Iterator[Browser]:
    """Chromium on a host.

    Args:
        host: whose network it uses.
        playwright: what drives it.
        directory: for its launcher and for pictures.
        names: addresses of host names, ``*`` allowed, that no DNS of the laboratory knows.
    """
    launcher = directory / f"chromium-{host.name}"
    chromium = shutil.which("chromium")
    assert chromium is not None, "scripts/install --dev brings chromium"
    launcher.write_text(LAUNCHER.format(pid=host.pid, chromium=chromium), encoding="utf-8")
    launcher.chmod(0o700)
    rules = ",".join(f"MAP {name} {address}" for name, address in (names or {}).items())
    with playwright.chromium.launch(
        executable_path=launcher,
        chromium_sandbox=False,  # which root cannot have
        args=[f"--host-resolver-rules={rules}", "--disable-background-networking"],
    ) as chromium_there:
        context = chromium_there.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
        context.set_default_timeout(TIMEOUT)
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if _is_blocked(said.text) else None)
        yield Browser(context, page, errors, directory)


def _is_blocked(text: str) -> bool:
    return "Content Security Policy" in text or "Refused to" in text
