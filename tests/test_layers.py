"""The import rules of ARCHITECTURE.md, read from the syntax trees.

Who may import whom, and what purity means.

To move a wall, change the tables and their reasons in the same commit.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "coderd"

LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"model"}),
    frozenset({"packet", "config", "metrics"}),
    frozenset({"wireguard", "tun", "packetfilter", "derp", "disco", "stun", "http", "process"}),
    frozenset({"netcheck"}),
    frozenset({"magicsock"}),
    frozenset({"engine"}),
    frozenset({"identity", "api", "browser", "terminal"}),
    frozenset({"control", "coordination", "peerapi", "speedtest", "apps", "webterminal", "dashboard"}),
    frozenset({"daemon", "server", "plain"}),
    frozenset({"cli"}),
)
"""Lowest first. A package imports from lower levels only; siblings meet one level up."""

SIBLINGS = {
    ("derp", "http"): "the relay's client and server speak through the one dialer and the one port",
}

SHELL_PACKAGES = frozenset({"process", "http", "daemon", "server", "cli"})
"""Packages of shells: they wait, open and assemble.

A module there is pure if its docstring's first paragraph says "Pure.".
"""

PURE_BANS = {
    "trio": "a pure core never waits",
    "socket": "sockets belong to the shell",
    "ssl": "TLS belongs to the shell",
    "time": "now is an argument",
    "datetime": "now is an argument",
    "random": "randomness is an argument",
    "secrets": "randomness is an argument",
    "os": "the operating system belongs to the shell",
    "http": "HTTP belongs to the shell",
    "subprocess": "processes belong to the shell",
    "threading": "one owner per state, no locks",
}


def modules() -> list[Path]:
    return [path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT]


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def is_shell(path: Path) -> bool:
    inside = path.relative_to(ROOT).parts
    if inside[0] in SHELL_PACKAGES:
        return not is_marked_pure(path)
    return "io" in inside[1:-1] or inside[-1] == "io.py"


def is_marked_pure(path: Path) -> bool:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else None
    return text is not None and re.search(r"\bPure[.:]", text.partition("\n\n")[0]) is not None


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def level_of(package: str) -> int:
    return next(level for level, packages in enumerate(LEVELS) if package in packages)


def test_every_package_has_a_level() -> None:
    known = frozenset().union(*LEVELS)
    assert {package_of(path) for path in modules()} <= known


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = package_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "coderd" or len(parts) < 2 or not (ROOT / parts[1]).is_dir() or parts[1] == own:
            continue
        allowed = level_of(parts[1]) < level_of(own) or (own, parts[1]) in SIBLINGS
        assert allowed, f"{own} must not import {name}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if not is_shell(path)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_pure_modules_import_nothing_impure(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert top not in PURE_BANS, f"{name}: {PURE_BANS[top]}"
        if name.startswith("coderd."):
            target = ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py")
            assert not (target.is_file() and is_shell(target)), f"{name}: a pure module imports no shell"
            assert "io" not in name.split("."), f"{name}: a pure module imports no shell"


@pytest.mark.parametrize("package", sorted(SHELL_PACKAGES))
def test_a_shell_package_marks_what_is_pure_in_it(package: str) -> None:
    assert any(is_marked_pure(path) for path in modules() if package_of(path) == package)


def _imported_modules(path: Path, modules: frozenset[str]) -> Iterator[str]:
    """Yields the modules of ours that a file names in imports, those for typing too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "coderd":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules else node.module


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in ROOT.rglob("*.py")
    }
    modules = frozenset(files)
    left = {name: set(_imported_modules(path, modules)) - {name} for name, path in files.items()}
    while free := {name for name, imported in left.items() if not imported & left.keys()}:
        left = {name: imported for name, imported in left.items() if name not in free}
    assert left == {}, "what is left imports what is left, so that a circle is among them"
