"""A loop over what a parser makes of received bytes counts its events, or stands in a table with a reason.

Read from the syntax trees: whoever asks a parser for events in a loop lets others run in between
(``coderd.http.turns``).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "coderd"

GIVES_ONE = {"next_frame", "next_event", "next_line", "next_step", "events", "feed"}
"""Calls that give one event of what was received, or something to iterate over."""
BOUNDED = {
    ("derp/websocket.py", "poll_data"): "MAX_FRAMES",
    ("derp/frame.py", "__iter__"): "an iterator: who iterates counts",
    ("control/protocol.py", "__iter__"): "an iterator: who iterates counts",
    ("terminal/frames.py", "__iter__"): "an iterator: who iterates counts",
    ("control/io/client.py", "_next_line"): "a program of its own that waits for nothing else",
    ("cli/terminal.py", "_hear"): "a program of its own that waits for nothing else",
    ("plain/io/uapi.py", "_converse"): "root alone connects there",
}
"""Loops that need not count, each with the reason."""


def loops() -> Iterator[tuple[str, str, ast.AST]]:
    """Every loop and comprehension whose head or body asks a parser for an event, by module and function."""
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not any(f"{name}(" in text for name in GIVES_ONE):
            continue
        for function in ast.walk(ast.parse(text)):
            if not isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(
                    node, ast.While | ast.For | ast.AsyncFor | ast.ListComp | ast.GeneratorExp
                ) and any(name in GIVES_ONE for name in calls(node)):
                    yield str(path.relative_to(ROOT)), function.name, node


def calls(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            yield each.func.attr if isinstance(each.func, ast.Attribute) else getattr(each.func, "id", "")


def counts(node: ast.AST) -> bool:
    """Whether a loop lets others run: by a turn of its own, or by the one of the helper that it asks."""
    names = set(calls(node))
    return bool(names & {"count", "checkpoint", "next_step", "_next_frame", "_next_step"})


def test_every_loop_over_received_events_takes_turns() -> None:
    found = list(loops())
    assert len(found) >= 10
    wrong = {(path, function) for path, function, node in found if not counts(node)} - set(BOUNDED)
    # A loop that only reads on until there is an event gives one event: its caller counts.
    assert {each for each in wrong if not is_reading_on(each)} == set()


def test_the_table_names_loops_that_exist() -> None:
    assert set(BOUNDED) <= {(path, function) for path, function, _ in loops()}


def is_reading_on(where: tuple[str, str]) -> bool:
    """Returns whether all loops of a function end as soon as there is an event.

    Such a loop is ``while (x := next_…()) is None: read``.
    """
    return all(
        isinstance(node, ast.While)
        and isinstance(node.test, ast.Compare)
        and isinstance(node.test.ops[0], ast.Is)
        and isinstance(node.test.comparators[0], ast.Constant)
        and node.test.comparators[0].value is None
        and any(isinstance(each, ast.Await) for each in ast.walk(node))
        for path, function, node in loops()
        if (path, function) == where
    )
