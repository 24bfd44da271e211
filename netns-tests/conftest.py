"""What every test of this folder needs: root, and tools that scripts/install --dev brings."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab

TOOLS = ("ip", "nft", "unshare", "nsenter", "tcpdump", "iperf3", "ping")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.netns)


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    """Fail rather than skip: a namespace test that did not run proves nothing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    assert not missing, f"scripts/install --dev brings {', '.join(missing)}"
    assert os.geteuid() == 0, "network namespaces need root: run it with sudo"


@pytest.fixture
def easy_lab() -> Iterator[Lab]:
    """Two easy NATs, coderd joined on both sides."""
    with Lab("easy-nat") as lab:
        lab.join()
        yield lab
