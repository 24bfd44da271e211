"""What every test of this folder needs: root, and tools that scripts/install --dev brings."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from browser import TIMEOUT
from lab import Lab
from lab.laboratory import OPEN
from playwright.sync_api import Playwright, expect, sync_playwright

TOOLS = ("ip", "nft", "unshare", "nsenter", "tcpdump", "iperf3", "ping")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.netns)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of a fixture's laboratory with the failure.

    One within the test has written its own already.
    """
    report = yield
    if report.failed:
        report.sections += [("laboratory", lab.story()) for lab in OPEN]
    return report


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    """Fail rather than skip: a namespace test that did not run proves nothing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    assert not missing, f"scripts/install --dev brings {', '.join(missing)}"
    assert os.geteuid() == 0, "network namespaces need root: run it with sudo"


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """What drives browsers; see `browser.browser_on`."""
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture
def easy_lab() -> Iterator[Lab]:
    """Two easy NATs, coderd joined on both sides."""
    with Lab("easy-nat") as lab:
        lab.join()
        yield lab
