"""Long lists on a page: the first hundred, how many more, and the rest by name."""

from typing import NamedTuple

from coderd.dashboard.excerpt import MAX_SHOWN, excerpt


class Machine(NamedTuple):
    owner: str
    name: str


MACHINES = [Machine("ann" if i % 2 else "bob", f"dev{i}") for i in range(3 * MAX_SHOWN)]


def test_a_short_list_is_shown_whole() -> None:
    assert excerpt(MACHINES[:2], "", "owner", "name") == (tuple(MACHINES[:2]), 0)
    assert excerpt([], "", "name") == ((), 0)


def test_of_a_long_list_the_first_are_shown_and_the_others_counted() -> None:
    shown, n_left_out = excerpt(iter(MACHINES), "", "owner", "name")
    assert (shown, n_left_out) == (tuple(MACHINES[:MAX_SHOWN]), 2 * MAX_SHOWN)


def test_the_rest_is_found_by_any_part_of_its_name_in_any_case() -> None:
    last = MACHINES[-1]
    assert excerpt(MACHINES, f" {last.owner}/{last.name.upper()} ", "owner", "name") == ((last,), 0)
    assert excerpt(MACHINES, "ann/", "owner", "name").n_left_out == MAX_SHOWN // 2
    assert excerpt(MACHINES, "nobody", "owner", "name") == ((), 0)
