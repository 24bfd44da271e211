"""Lines of code, comments and docstrings end at ruff's limit.

Ruff's own E501 does not know what a line is. Here a text for people or programs (a string that is no
docstring) may be longer, since it ends where its reader's lines do; so may a docstring's row of a table or
drawing, and the name of a test, which is a sentence.
"""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT: int = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["line-length"]
TABLES = re.compile(r"\S {2,}\S|^\s+\S+ *[─═]")
"""A row of a table or drawing: columns are kept apart by spaces."""
TEST_NAME = re.compile(r" *(async )?def test_\w+\(")
EXCEPT = {
    "coderd/model/limits.py": "each docstring is a cell of docs/limits.md",
    "tests/unit/packetfilter/test_filter.py": "packets are laid out by hand",
}
LEFT = ("tests/sim/", "tests/shell/")
"""Not reflowed yet."""
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("coderd", "tests", "netns-tests", "examples", "scripts")
    for path in (ROOT / folder).rglob("*.py")
)


def _text_lines(source: str) -> set[int]:
    """Returns the lines that a string has a part in, docstrings aside, and rows of tables in docstrings."""
    documentation = {
        (node.value.lineno, node.value.end_lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    lines = source.splitlines()
    found: set[int] = set()
    begun = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        first, last = token.start[0], token.end[0]
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":
            begun = first
        elif name == "FSTRING_END":
            found.update(range(begun, last + 1))
        elif token.type == tokenize.STRING:
            span = range(first, last + 1)
            is_documentation = (first, last) in documentation
            found.update(n for n in span if not is_documentation or TABLES.search(lines[n - 1]))
        elif token.type == tokenize.COMMENT and TABLES.search(token.string):
            found.add(first)
    return found


def long_lines(source: str) -> Iterator[int]:
    """Yields the number of each line that is too long."""
    lines = enumerate(source.splitlines(), 1)
    long = [n for n, line in lines if len(line) > LIMIT and not TEST_NAME.fullmatch(line)]
    if long:
        texts = _text_lines(source)
        yield from (n for n in long if n not in texts)


@pytest.mark.parametrize("path", [p for p in FILES if p not in EXCEPT and not p.startswith(LEFT)])
def test_lines_end_at_the_limit(path: str) -> None:
    assert list(long_lines((ROOT / path).read_text(encoding="utf-8"))) == []


def test_what_is_too_long_is_found_in_code_comments_and_docstrings_but_not_in_texts() -> None:
    long = "x" * LIMIT
    assert list(long_lines(f"{long} = 1\n")) == [1]
    assert list(long_lines(f"# {long}\n")) == [1]
    assert list(long_lines(f'"""{long}\n\nOf two words  {long}\n"""\n')) == [1]
    assert list(long_lines(f'a = "{long}"\nb = f"{{a}}{long}"\n')) == []
