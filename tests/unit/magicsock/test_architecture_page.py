"""The table of constants in docs/architecture/node-and-paths.md is the code's."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "architecture" / "node-and-paths.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)\.([A-Z_]+)` \| ([0-9.]+) \|", PAGE, re.MULTILINE)


def test_the_table_is_there() -> None:
    assert len(ROWS) >= 14


@pytest.mark.parametrize(("module", "name", "seconds"), ROWS)
def test_a_constant_is_what_the_page_says(module: str, name: str, seconds: str) -> None:
    assert getattr(importlib.import_module(f"coderd.magicsock.{module}"), name) == float(seconds)
