"""The table of a path's states, and its picture in docs/architecture/node-and-paths.md."""

from coderd.magicsock import best_path
from coderd.magicsock.path_state import TRANSITIONS, PathEvent, PathState
from tests.unit.magicsock.path_picture import PAGE, picture, replace_picture


def test_every_state_can_be_reached_and_left() -> None:
    reached = {following for events in TRANSITIONS.values() for following in events.values()}
    assert reached == set(PathState) == set(TRANSITIONS)
    assert all(set(events.values()) - {state} for state, events in TRANSITIONS.items())


def test_every_event_moves_something() -> None:
    assert {event for events in TRANSITIONS.values() for event in events} == set(PathEvent)


def test_a_pong_makes_any_state_direct() -> None:
    assert {events[PathEvent.PONG] for events in TRANSITIONS.values()} == {PathState.DIRECT}


def test_the_page_shows_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert replace_picture(page, picture()) == page, "run python -m tests.unit.magicsock.path_picture"


def test_the_words_for_an_event_name_the_codes_seconds() -> None:
    for event, seconds in (
        (PathEvent.UNUSED, best_path.ACTIVE_TIMEOUT),
        (PathEvent.SILENT, best_path.DOUBT_AFTER),
        (PathEvent.OVERDUE, best_path.SUSPECT_AFTER),
        (PathEvent.GIVEN_UP, best_path.DOUBT_LIMIT),
        (PathEvent.TRUST_ENDED, best_path.TRUST),
    ):
        assert f" {seconds:g} s" in event.value
