"""``ARCHITECTURE.md`` and ``docs/architecture/`` name what exists: packages, files, names, tests.

The pages' links lead somewhere, too.
"""

import re
from pathlib import Path

import pytest

from tests.test_layers import LEVELS

ROOT = Path(__file__).parents[1]
OVERVIEW = ROOT / "ARCHITECTURE.md"
PAGES = (OVERVIEW, *sorted((ROOT / "docs" / "architecture").glob("*.md")))
LINKING = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MOST_LINES = 125


def names(text: str) -> set[str]:
    """Returns what a page quotes as code, outside its pictures."""
    return set(re.findall(r"`([^`\n]+)`", FENCED.sub("", text)))


def words_of_source() -> set[str]:
    words: set[str] = set()
    for folder in ("coderd", "tests", "netns-tests"):
        for path in (ROOT / folder).rglob("*.py"):
            words.update(
                re.findall(r"\w+", path.read_text(encoding="utf-8")),
                path.relative_to(ROOT).with_suffix("").parts,
            )
    return words


def heading_anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_overview_is_short() -> None:
    assert len(OVERVIEW.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_tree_and_the_import_line_name_every_package() -> None:
    text = OVERVIEW.read_text(encoding="utf-8")
    tree, line = (block for block in FENCED.findall(text) if block.startswith(("```\ncoderd/", "```\ncli")))
    packages = frozenset().union(*LEVELS)
    assert set(re.findall(r"(?<= )(\w+)/ ", tree, re.MULTILINE)) >= packages
    drawn = tuple(frozenset(level.replace("|", " ").split()) for level in line.strip("`\n").split(">"))
    assert drawn == LEVELS[::-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_on_the_pages_exist(page: Path) -> None:
    known = words_of_source()
    quoted = (
        part for name in names(page.read_text(encoding="utf-8")) for part in re.findall(r"\w{4,}", name)
    )
    assert sorted({word for word in quoted if word not in known} - SHELL_WORDS) == []


SHELL_WORDS = {"docs", "scripts", "json"}
"""Parts of commands and of files that are no Python."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_on_the_pages_exist(page: Path) -> None:
    quoted = names(page.read_text(encoding="utf-8"))
    files = {name.partition(":")[0] for name in quoted if re.fullmatch(r"[\w/-]+\.py(:\w+)?", name)}
    roots = (ROOT, ROOT / "coderd", ROOT / "netns-tests")
    found = [path.as_posix() for root in roots for path in root.rglob("*.py")] if files else []
    assert [name for name in sorted(files) if not any(path.endswith(f"/{name}") for path in found)] == []


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_a_page_and_a_heading_of_it(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text(encoding="utf-8"))):
        where, _, anchor = link.partition("#")
        if re.match(r"\w+:", where):
            continue
        target = (page.parent / where).resolve() if where else page
        if not target.exists() or (anchor and anchor not in heading_anchors(target)):
            broken.append(link)
    assert broken == []
