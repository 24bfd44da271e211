"""Draws the states of a path from ``path_state.TRANSITIONS``, for ``architecture/node-and-paths.md``.

``python -m tests.unit.magicsock.path_picture`` writes the picture into that page.
"""

from pathlib import Path

from coderd.magicsock.path_state import TRANSITIONS, PathState

PAGE = Path(__file__).parents[3] / "docs" / "architecture" / "node-and-paths.md"
BEGIN, END = "```\nIDLE ", "\n```"


def picture() -> str:
    """Returns the table as text: each state, then the events that end it and the state that follows."""
    return "\n\n".join(map(_state, PathState))


def replace_picture(page: str, drawn: str) -> str:
    """Returns the page with another picture between its fences. Raises ValueError if it has none."""
    begin = page.index(BEGIN) + len("```\n")
    return page[:begin] + drawn + page[page.index(END, begin) :]


def _state(state: PathState) -> str:
    lines = [f"{state.name:8} {state.value}"]
    events: dict[PathState, list[str]] = {}
    for event, following in TRANSITIONS[state].items():
        if following is not state:
            events.setdefault(following, []).append(event.value)
    for following, reasons in events.items():
        lines += (f"  --> {following.name:8} {reason}" for reason in reasons)
    return "\n".join(lines)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replace_picture(text, picture()), encoding="utf-8")
