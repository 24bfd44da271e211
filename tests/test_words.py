"""What people read is in the field's plain words: errors, help, the dashboard's templates and scripts.

``python tests/test_words.py`` lists what breaks the rule, a line each. Other docstrings are
``tests/test_prose.py``'s.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "coderd"

PLAIN = {
    r"whose|whoever": "name the user, client or node",
    r"somebody|nobody|everybody": "a user, no node, everyone …",
    r"(take|takes|taken|took)( \w+)? back": "revoke, withdraw",
    r"makes? no sense": "invalid",
    r"(?<!there )(is|are) none": "invalid, or what is missing",
    r"(?<!there )(is|are) no (?!longer)[a-z]\w+": "is not a …, is invalid",
    r"which is the most": "the limit",
    r"shown (this|only now)": "shown only once",
    r"cut \w+ off": "revoke, close",
}
"""Words of ours, and the field's that stand in their place."""

BANNED = re.compile(rf"\b({'|'.join(PLAIN)})\b", re.IGNORECASE)
ALSO_BANNED_ON_PAGES = re.compile(r"\b(made|ends|stands for|signs in again)\b", re.IGNORECASE)
"""In the dashboard: created, expires; a word that says how rather than what."""

_SHOWN_DOCSTRINGS = ROOT / "api" / "messages"
"""Docstrings that the OpenAPI document shows."""
_OWN_SCRIPTS = ("live.js", "terminal.js")
_MARKUP = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}|<[^>]*>", re.DOTALL)
_SHOWN_ATTRIBUTE = re.compile(r'\b(?:title|placeholder|aria-label|data-label)="([^"{]*)"')
_EXPRESSION = re.compile(r"\{\{(.*?)\}\}")
_QUOTED = re.compile(r'"([^"]*)"')
_SCRIPT_STRING = re.compile(r'"([^"\n]*)"|`([^`]*)`')


def shown_strings() -> Iterator[tuple[Path, int, str]]:
    """Yields file, line and text of each string that may be shown to a person."""
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        docstrings = path.is_relative_to(_SHOWN_DOCSTRINGS)
        yield from ((path, line, text) for line, text in strings(tree, docstrings=docstrings))
    for path in sorted((ROOT / "dashboard" / "templates").glob("*.html")):
        yield from ((path, line, text) for line, text in page_texts(path.read_text("utf-8")))
    for name in _OWN_SCRIPTS:
        path = ROOT / "dashboard" / "static" / name
        for line, code in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield from ((path, line, "".join(found)) for found in _SCRIPT_STRING.findall(code))


def strings(tree: ast.Module, *, docstrings: bool = False) -> Iterator[tuple[int, str]]:
    """Yields line and text of each string of more than one word; docstrings only on request."""
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and not docstrings}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in left_out and " " in text.strip():
                yield node.lineno, text


def page_texts(template: str) -> Iterator[tuple[int, str]]:
    """Yields line and text of what a template shows: between its tags, in attributes and in expressions."""
    for line, source in enumerate(template.splitlines(), 1):
        quoted = [text for code in _EXPRESSION.findall(source) for text in _QUOTED.findall(code)]
        shown = [_MARKUP.sub(" ", source), *_SHOWN_ATTRIBUTE.findall(source), *quoted]
        yield from ((line, text) for text in shown if text.strip())


def offences() -> Iterator[str]:
    """Yields what breaks the rule."""
    for path, line, text in shown_strings():
        found = BANNED.search(text) or (path.suffix == ".html" and ALSO_BANNED_ON_PAGES.search(text))
        if found:
            yield f"{path.relative_to(ROOT.parent)}:{line}: {found[0]!r} in {text.strip()[:80]!r}"


def test_what_people_read_is_in_plain_words() -> None:
    assert list(offences()) == []


@pytest.mark.parametrize(
    "text",
    [
        "only an owner may list everybody's",
        "the request makes no sense",
        "take it back",
        "the value is none",
        "x is no duration",
        "it is shown this once",
    ],
)
def test_a_word_that_gave_way_is_found(text: str) -> None:
    assert BANNED.search(text)


@pytest.mark.parametrize(
    "text",
    ["there is no workspace dev", "it is no longer valid", "fail if there is none", "the token is invalid"],
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert not BANNED.search(text)


def test_docstrings_and_single_words_are_no_strings_for_people() -> None:
    tree = ast.parse('def f():\n    """Whose is it."""\n    return "nobody", f"told {x} nobody knows"')
    assert [text for _, text in strings(tree)] == [" nobody knows"]


def test_a_template_shows_texts_attributes_and_expressions() -> None:
    line = """<td title="a hint">{{ "only mine" if x else "y" }}{# no #}{% set z = 1 %}<b class="k">text</b></td>"""
    assert [text.split() for _, text in page_texts(line)] == [
        ["text"],
        ["a", "hint"],
        ["only", "mine"],
        ["y"],
    ]


if __name__ == "__main__":
    print(*offences(), sep="\n")
