"""``docs/glossary.md`` explains words that the other pages use, and links to pages that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "glossary.md"

FORMER_WORDS = (
    "letterbox",
    "dossier",
    "oddity",
    "oddities",
    "take that back",
    "what is none",
    "whoever comes first",
    "foretold",
    "nobody",
    "somebody",
    "everybody",
    "anybody",
    "whoever",
)
"""Words that gave way to the field's, or to the name of the user, node or client that is meant."""


def entries() -> dict[str, str]:
    found = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) > 20
    return dict(found)


def pages() -> dict[Path, str]:
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {path: path.read_text(encoding="utf-8") for path in paths if path != PAGE}


def test_each_entry_is_used_on_the_page_that_it_links_to() -> None:
    for word, meaning in entries().items():
        (link,) = re.findall(r"\]\(([\w/.-]+)\)", meaning)
        text = " ".join((PAGE.parent / link).read_text(encoding="utf-8").lower().split())
        assert word.lower() in text, f"{word} is not used in {link}"


def test_entries_are_in_the_order_of_the_alphabet() -> None:
    words = [word.lower() for word in entries()]
    assert words == sorted(words)


def test_no_page_for_users_has_a_former_word() -> None:
    found = [
        (path.name, word)
        for path, text in pages().items()
        for word in FORMER_WORDS
        if word in re.sub(r"`[^`]*`", "", text).lower()  # names of tests stay as they are
    ]
    assert found == []
