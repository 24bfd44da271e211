"""What people read has one form everywhere.

A clause that follows ``coderctl:``, and a hint that is a sentence.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import coderd

ROOT = Path(coderd.__file__).parent
ERRORS = {"UserError": 0, "ApiError": 2, "BadName": 0, "NameTaken": 0, "KeyTaken": 0, "NotFound": 0}
"""Names of what is raised for people, and which argument the sentence is."""


def sentences() -> Iterator[tuple[str, str]]:
    """Every literal sentence and where it stands."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                argument = node.args[ERRORS[node.func.id] :][:1]
                parts = (
                    argument[0].values if argument and isinstance(argument[0], ast.JoinedStr) else argument
                )
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
                if any(isinstance(part, ast.Constant) for part in parts):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def test_sentences_have_no_full_stop_and_no_capital_but_of_a_name() -> None:
    found = list(sentences())
    assert len(found) > 50
    wrong = [
        f"{place}: {text}"
        for place, text in found
        if text.endswith(".") or (text[0].isupper() and not text.split()[0].isupper() and text[:2] != "IP")
    ]
    assert wrong == []
