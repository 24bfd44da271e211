"""Classes keep to their own privates: ``x._name`` only where ``x`` is the class's own.

Where a class reads another's privates, one state has two owners, and neither file tells the whole of it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parent.parent / "coderd"

ALLOWED = {
    (
        "http/hypercorn_websocket.py",
        "super()._send_error_response",
    ): "Hypercorn offers no other place to bound it",
    ("http/hypercorn_websocket.py", "super()._send_h11_event"): "Hypercorn offers no other place to bound it",
    ("http/hypercorn_websocket.py", "super()._create_stream"): "Hypercorn offers no other place to bound it",
}
"""Accesses that are there for a reason, by file and text."""

PUBLIC = frozenset({"_asdict", "_replace", "_fields", "_make", "_field_defaults", "_mapping", "_exit"})
"""Documented names in spite of their underscore: of ``NamedTuple``, SQLAlchemy's rows, and ``os``."""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def foreign_accesses(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Yields each access to a private name of an object that the code around does not own.

    Owned are ``self`` and ``cls``, what a class method makes by ``cls(...)``, and the ``other`` of a
    comparison.
    """
    yield from _foreign(tree, frozenset({"self", "cls"}))


def _foreign(node: ast.AST, own: frozenset[str]) -> Iterator[ast.Attribute]:
    for child in ast.iter_child_nodes(node):
        inside = own | _made_by_cls(child) if isinstance(child, Function) else own
        if isinstance(child, ast.Attribute) and is_private(child.attr) and _name(child.value) not in inside:
            yield child
        yield from _foreign(child, inside)


def _name(value: ast.expr) -> str:
    return value.id if isinstance(value, ast.Name) else ""


def _made_by_cls(function: Function) -> frozenset[str]:
    """Names that a function gives to objects of its own class, new or compared with."""
    made = {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and ast.unparse(node.value.func) == "cls"
    }
    return frozenset(
        made | ({"other"} if function.name in ("__eq__", "__lt__", "__le__", "__or__") else set())
    )


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def private_imports(tree: ast.AST) -> Iterator[str]:
    """Yields the private names of other modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("coderd"):
            yield from (alias.name for alias in node.names if is_private(alias.name))


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def test_no_class_reaches_into_anothers_privates() -> None:
    found = [(file, access) for file, tree in trees() for access in foreign_accesses(tree)]
    left = [
        f"{file}:{access.lineno}: {ast.unparse(access)}"
        for file, access in found
        if (file, ast.unparse(access)) not in ALLOWED
    ]
    assert not left, "\n".join(left)
    assert {(file, ast.unparse(access)) for file, access in found} >= set(ALLOWED), (
        "no exception is left over"
    )


def test_no_module_imports_anothers_privates() -> None:
    assert not [(file, name) for file, tree in trees() for name in private_imports(tree)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class A:\n def f(self): return self._x", []),
        ("class A:\n def f(self): return self._x._y", ["self._x._y"]),
        ("class A:\n def f(self, other): return other._x", ["other._x"]),
        ("class A:\n def __eq__(self, other): return self._x == other._x", []),
        ("class A:\n @classmethod\n def f(cls):\n  new = cls(1)\n  new._x = 2", []),
        ("def f(a):\n a._x += 1", ["a._x"]),
        ("def f():\n return super().f()._x", ["super().f()._x"]),
        ("def f(row): return row._asdict()", []),
    ],
)
def test_the_rule_finds_what_it_is_for(source: str, expected: list[str]) -> None:
    assert [ast.unparse(access) for access in foreign_accesses(ast.parse(source))] == expected
