"""A schedule against the plainest thing that could be right: the least of a list."""

from math import inf
from random import Random

from coderd.model.deadline import Deadline
from coderd.model.schedule import Schedule


class Sleeper:
    """A machine whose deadline can be set."""

    def __init__(self, at: float) -> None:
        self.at = at

    def next_at(self) -> float:
        return self.at

    def poll_timeout(self) -> Deadline | None:
        return Deadline(self.at, "wakes") if self.at != inf else None


def test_the_earliest_comes_first_however_deadlines_move() -> None:
    rng = Random(3)
    sleepers = [Sleeper(rng.random()) for _ in range(20)]
    schedule: Schedule[Sleeper] = Schedule()
    for sleeper in sleepers:
        schedule.update(sleeper)
    for _ in range(2000):
        sleeper = rng.choice(sleepers)
        sleeper.at = rng.choice([rng.random(), inf])
        schedule.update(sleeper)
        first = schedule.first()
        earliest = min(each.at for each in sleepers)
        assert (first.at if first else inf) == earliest
    assert len(schedule._heap) <= 2 * len(sleepers) + 17


def test_a_discarded_machine_is_gone() -> None:
    schedule: Schedule[Sleeper] = Schedule()
    sleeper = Sleeper(1.0)
    schedule.update(sleeper)
    schedule.discard(sleeper)
    assert schedule.first() is None


def test_the_first_is_the_least_whatever_was_set_before() -> None:
    rng, schedule = Random(1), Schedule[Sleeper]()
    sleepers = [Sleeper(inf) for _ in range(8)]
    for _ in range(5000):
        sleeper = rng.choice(sleepers)
        if rng.random() < 0.2:
            sleeper.at = inf
            schedule.discard(sleeper)
        else:
            sleeper.at = float(rng.randrange(1000))
            schedule.update(sleeper)
        first = schedule.poll_timeout()
        assert (first.when if first else inf) == min(each.at for each in sleepers)
        assert len(schedule) >= sum(each.at != inf for each in sleepers)


def test_what_is_due_comes_once_the_longest_overdue_first() -> None:
    schedule, woken = Schedule[Sleeper](), list[float]()
    for at in (9.0, 4.0, 20.0, 3.0):
        schedule.update(Sleeper(at))
    while (sleeper := schedule.first_due(5.0)) is not None:
        woken.append(sleeper.at)
        sleeper.at = inf
    assert woken == [3.0, 4.0]


def test_machines_that_are_due_together_come_in_the_order_in_which_they_were_planned() -> None:
    schedule, sleepers = Schedule[Sleeper](), [Sleeper(1.0) for _ in range(50)]
    for sleeper in sleepers:
        schedule.update(sleeper)
    for sleeper in sleepers:
        assert schedule.first_due(1.0) is sleeper
        sleeper.at = inf


def test_a_deadline_that_moves_with_every_packet_fills_no_memory() -> None:
    schedule, sleeper = Schedule[Sleeper](), Sleeper(0.0)
    for at in range(10_000):
        sleeper.at = float(-at if at % 2 else at)
        schedule.update(sleeper)
    assert len(schedule._heap) < 100
