"""Docstrings of public names can be read alone: an editor shows one of them, without its neighbours.

``python tests/test_prose.py [package ...]`` lists what is left in a package, a line each. A package that is
not in ``LEFT`` is held to every rule; one that is there may have no more offences than its number.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

ROOT = Path(__file__).parents[1] / "coderd"

LEFT: dict[str, int] = {}
"""Offences left by package, as ``counts`` has them. A number only ever gets smaller; at 0 its line goes."""

BANNED_OPENINGS = ("The same", "Likewise", "Those", "So", "Another", "It", "Nothing", "Never")
"""First words that lean on a docstring before, or say what does not happen."""

CIRCUMLOCUTIONS = re.compile(r"\b([Nn]o|[Ee]very|[Ss]ome|[Aa]ny)body\b|\b[Ww]hoever\b")
"""Words for which the field has one that says which: a client, a user, a node, everyone, no process …"""

MIN_WORDS = 5
"""The least words of a public function's docstring."""

VERBS = frozenset(
    """
    abort accept acknowledge add admit advance answer append apply arm ask assemble assign attach
    authenticate authorise await begin bind block bound break build call cancel carry cause change
    check choose claim classify clear close collect combine compact compare complete compose compute
    configure connect consume convert copy count create cut deal decide decline decode decrypt delay
    delete deny derive describe destroy detach detect dial disable disarm discard disconnect
    dispatch distribute divide do drain draw drop dump emit empty enable encode encrypt end enforce
    enrol enter establish estimate examine exchange execute expand expect expire explain export
    extend extract feed fetch fill filter find finish fire fit flush fold follow forget format
    forward free gather generate get give go grant group guard hand handle hang hash have help hide
    hold identify ignore import increase index inform insert inspect install invalidate invite
    iterate join judge keep kill know label lay lead learn leave let lift limit list listen load
    lock log look lower make map mark match measure merge mix move name narrow need note notify
    obtain offer open order parse pass pause ping place plan poll post predict prefer prepare
    present print probe produce prove publish pull push put queue quote raise rank reach read rebind
    rebuild receive record recover redeem redirect reduce refill refuse register reject relay
    release reload remember remove rename render renew reopen repeat replace reply report request
    reserve reset resolve respond restart restore restrict resume retire retry return reveal revoke
    rewrite rotate round route run sample save say scan schedule seal search seize select send
    separate serve set share shorten show shrink shut sign simulate sit size skip sleep sort spend
    split spread stage start stop store stream strip subscribe subtract sum supply suspend sweep
    switch take talk tear tell terminate test throw time touch trace track transfer translate try
    turn unblock undo unlock unpack unregister unshare unwrap update upgrade use validate verify
    visit wait wake walk warn watch weigh withdraw work wrap write yield
    """.split()  # noqa: SIM905
)
"""What a public function's docstring may begin with, in the third person ("Returns …"); add what you miss."""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Offence(NamedTuple):
    """A docstring that breaks a rule."""

    path: Path
    line: int
    name: str
    problem: str
    text: str

    @property
    def package(self) -> str:
        return self.path.relative_to(ROOT).parts[0]

    def __str__(self) -> str:
        where = self.path.relative_to(ROOT.parent)
        return f"{where}:{self.line}: {self.name}: {self.problem}: {self.text[:60]!r}"


def offences() -> Iterator[Offence]:
    """Yields what breaks a rule, in all of the program."""
    for path in sorted(ROOT.rglob("*.py")):
        for name, node, text in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            for problem in problems(node, text, is_command=path.is_relative_to(ROOT / "cli")):
                yield Offence(path, node.lineno if hasattr(node, "lineno") else 1, name, problem, text)


def docstrings(tree: ast.Module) -> Iterator[tuple[str, ast.AST, str]]:
    """Yields name, definition and text of each docstring of a public module, class, function or attribute."""
    if text := ast.get_docstring(tree):
        yield "module", tree, text
    yield from _inner(tree, "")


def _inner(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, ast.AST, str]]:
    for before, node in zip([None, *parent.body], parent.body, strict=False):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("_"):
                    continue
                if text := ast.get_docstring(node):
                    yield prefix + name, node, text
                if isinstance(node, ast.ClassDef):
                    yield from _inner(node, f"{prefix}{name}.")
            case ast.Expr(value=ast.Constant(value=str(text))):
                assigned = _assigned(before)
                if assigned and not assigned.startswith("_"):
                    yield prefix + assigned, node, text


def _assigned(node: ast.stmt | None) -> str | None:
    """Returns the name that an assignment is to, or None for any other statement."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return None


def problems(node: ast.AST, text: str, *, is_command: bool) -> Iterator[str]:
    """Yields what is wrong with a docstring."""
    words = text.split()
    bare = [word.rstrip(",.:;") for word in words[:2]]
    for opening in BANNED_OPENINGS:
        if " ".join(bare[: len(opening.split())]) == opening:
            yield f"begins with {opening!r}"
    if isinstance(node, Function) and not is_property(node):
        if len(words) < MIN_WORDS:
            yield f"has fewer than {MIN_WORDS} words"
        if not (is_third_person(words[0]) or (is_command and words[0].lower() in VERBS)):
            yield "does not begin with a verb in the third person"


def is_property(node: Function) -> bool:
    """Returns whether a function is read as an attribute, so that a noun describes it."""
    names = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
    return bool(names & {"property", "cached_property", "setter"})


def is_third_person(word: str) -> bool:
    """Returns whether a word is one of ``VERBS`` with the ending of the third person."""
    verb = word.rstrip(",;:").lower()
    irregular = {"has": "have", "does": "do", "goes": "go"}
    stems = {irregular.get(verb, ""), verb.removesuffix("s"), verb.removesuffix("es")}
    if verb.endswith("ies"):
        stems.add(verb.removesuffix("ies") + "y")
    return verb.endswith("s") and not stems.isdisjoint(VERBS)


def counts() -> dict[str, int]:
    """Returns the number of offences by package."""
    return dict(sorted(Counter(each.package for each in offences()).items()))


def test_public_docstrings_can_be_read_alone() -> None:
    found: dict[str, list[Offence]] = {}
    for each in offences():
        found.setdefault(each.package, []).append(each)
    too_many = {
        package: [str(each) for each in those]
        for package, those in found.items()
        if len(those) > LEFT.get(package, 0)
    }
    summary = {
        package: f"{len(those)}, allowed are {LEFT.get(package, 0)}" for package, those in too_many.items()
    }
    done = {package: those for package, those in too_many.items() if package not in LEFT}
    assert not too_many, f"{summary}\n" + "\n".join(line for those in done.values() for line in those)


def test_a_package_without_offences_is_held_to_all_rules() -> None:
    assert sorted(set(LEFT) - set(counts())) == [], "take these out of LEFT"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f():\n    """Returns the port that is in use."""', []),
        ('def f():\n    """The port that is in use."""', ["does not begin with a verb in the third person"]),
        ('def f():\n    """Closes it."""', ["has fewer than 5 words"]),
        ('class A:\n    """The same, but for IPv6."""', ["begins with 'The same'"]),
        ('X = 1\n"""Never more than this."""', ["begins with 'Never'"]),
        ('class A:\n    @property\n    def f(self):\n        """The port."""', []),
        ('def _f():\n    """So it is."""', []),
        ('class _A:\n    def f(self):\n        """So it is."""', []),
        ('class A:\n    """Something."""', []),
    ],
)
def test_each_rule_finds_what_it_is_for(source: str, expected: list[str]) -> None:
    found = [
        problem
        for _, node, text in docstrings(ast.parse(source))
        for problem in problems(node, text, is_command=False)
    ]
    assert found == expected


def test_a_command_may_be_told_in_the_imperative() -> None:
    (command,) = ast.parse('def f():\n    """Show this node\'s paths and counters."""').body
    assert isinstance(command, ast.FunctionDef)
    assert list(problems(command, ast.get_docstring(command) or "", is_command=True)) == []


def circumlocutions() -> Iterator[str]:
    """Yields file, line and text of each docstring or comment, private ones too, with a circumlocution."""
    for path in sorted(ROOT.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        prose = [*_bare_strings(ast.parse(source)), *_comments(source)]
        for line, text in prose:
            if CIRCUMLOCUTIONS.search(text):
                yield f"{path.relative_to(ROOT.parent)}:{line}: {' '.join(text.split())[:100]!r}"


def _bare_strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_docstrings_and_comments_name_who_they_mean() -> None:
    assert not list(circumlocutions())


if __name__ == "__main__":
    for offence in offences():
        if offence.package in sys.argv[1:] or len(sys.argv) == 1:
            print(offence)
    print(counts())
