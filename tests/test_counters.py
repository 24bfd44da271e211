"""``docs/counters.md`` names every counter, and nothing is counted or read under a name that it has not."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "coderd"
PAGE = ROOT / "docs" / "counters.md"


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PROGRAM.rglob("*.py"))}


def strings() -> set[str]:
    """Returns all texts of the program, and the names of its enums' members."""
    nodes = [node for tree in trees().values() for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def constants() -> dict[str, str]:
    """Returns the texts that modules give a name."""
    found = {}
    for tree in trees().values():
        for node in tree.body:
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text)))
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(text)))
                ):
                    found[name] = text
    return found


def counted() -> set[str]:
    """Returns the names under which something is counted; ``*`` is a part that is known only when it is."""
    named = constants()
    return {
        name
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).lower().endswith("counters")
        for name in names_in(node.slice, named)
    }


def names_in(node: ast.expr, named: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from names_in(one, named)
            yield from names_in(other, named)
        case ast.JoinedStr(values=values):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "*" for each in values)
        case ast.Name(id=name) if name in named:
            yield named[name]


def listed() -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_counter_stands_on_the_page_once() -> None:
    names = listed()
    assert len(names) == len(set(names))
    families = {name for name in counted() if "*" in name}
    missing = {name for name in counted() - families if name not in names}
    missing |= {family for family in families if not any(fnmatchcase(name, family) for name in names)}
    assert missing == set()


def test_each_name_on_the_page_is_counted() -> None:
    found, texts = counted(), strings()
    families = [name for name in found if "*" in name]
    unknown = [
        name
        for name in listed()
        if name not in found
        and not (name.rpartition(".")[2] in texts and any(fnmatchcase(name, family) for family in families))
    ]
    assert unknown == []


def test_no_drop_is_named_anywhere_that_is_not_on_the_page() -> None:
    dotted = re.compile(r"[a-z_]+\.drop\.[a-z_]+")
    names = set(listed())
    assert {text for text in strings() if dotted.fullmatch(text)} - names == set()
