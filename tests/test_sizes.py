"""Files and functions stay small enough to be read at once, measured on the syntax trees of the program.

A function has at most 60 lines, a file 500. What is longer stands below with its length, by which it may only
shrink: an exception that is not needed any more fails too, and its line goes.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parent.parent / "coderd"

MAX_FUNCTION = 60
"""Lines of a function, from its decorators to its end, docstring included."""
MAX_FILE = 500

LONG_FILES: dict[str, int] = {}
"""Lines of files that are longer: none is left, and none is added."""

LONG_FUNCTIONS = {
    "magicsock/conn.py:Conn.__init__": 61,
}
"""Lines of functions that are longer; none is added."""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, int]]:
    """Yields the qualified name and the lines of each function, those within another among them."""
    for child in ast.iter_child_nodes(node):
        name = within
        if isinstance(child, Function | ast.ClassDef):
            name = f"{within}.{child.name}".lstrip(".")
        if isinstance(child, Function):
            assert child.end_lineno is not None
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            yield name, child.end_lineno - first + 1
        yield from functions(child, name)


def long_functions(source: str, limit: int) -> dict[str, int]:
    return {name: n_lines for name, n_lines in functions(ast.parse(source)) if n_lines > limit}


def sources() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_no_file_is_long_but_those_that_are_named_and_they_only_shrink() -> None:
    found = {name: n_lines for name, text in sources() if (n_lines := len(text.splitlines())) > MAX_FILE}
    hold(found, LONG_FILES, "a file of more than 500 lines holds a second noun: split it")


def test_no_function_is_long_but_those_that_are_named_and_they_only_shrink() -> None:
    found = {
        f"{path}:{name}": n_lines
        for path, text in sources()
        for name, n_lines in long_functions(text, MAX_FUNCTION).items()
    }
    hold(found, LONG_FUNCTIONS, "a function of more than 60 lines has parts that deserve names")


def hold(found: dict[str, int], named: dict[str, int], advice: str) -> None:
    grown = {name: n_lines for name, n_lines in found.items() if n_lines > named.get(name, 0)}
    assert not grown, advice
    assert not named.keys() - found.keys(), "short now: take its line away"


def test_a_function_is_measured_with_its_decorators_wherever_it_stands() -> None:
    source = "class A:\n    @one\n    @two\n    async def b(self):\n        def c():\n            pass\n\nif x:\n    def d(): pass\n"
    assert dict(functions(ast.parse(source))) == {"A.b": 5, "A.b.c": 2, "d": 1}
    assert long_functions(source, 4) == {"A.b": 5}


@pytest.mark.parametrize(("found", "named"), [({"x": 61}, {}), ({"x": 71}, {"x": 70}), ({}, {"x": 70})])
def test_a_new_long_one_fails_and_so_does_an_exception_that_is_no_longer_needed(
    found: dict[str, int], named: dict[str, int]
) -> None:
    hold({"x": 65}, {"x": 70}, "too long")
    with pytest.raises(AssertionError):
        hold(found, named, "too long")
