"""Fair division of a bounded number of places between persons.

Pure.

Each person has at most ``limit_each``. When all places are taken, a newcomer displaces the newest place of
the person with the most, as long as that person keeps at least as many as the newcomer then has.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

Place = TypeVar("Place", bound=Hashable)


class NoSeat(Exception):
    """No place is free, and the newcomer already has a fair share."""


class Seats(Generic[Place]):
    """Places by person, oldest first.

    Args:
        limit: places in all.
        limit_each: places of one person.
        displaces_own: whether a newcomer beyond ``limit_each`` takes the place of the same person's oldest,
            instead of being refused.
    """

    def __init__(self, *, limit: int, limit_each: int, displaces_own: bool = False) -> None:
        self._limit = limit
        self._limit_each = limit_each
        self._displaces_own = displaces_own
        self._taken: dict[str, dict[Place, None]] = {}
        self._person_of: dict[Place, str] = {}

    def __len__(self) -> int:
        return len(self._person_of)

    def take(self, person: str, place: Place) -> Place | None:
        """Gives a person a place; returns the place that it displaces, for the caller to end, or None.

        Raises:
            NoSeat: the person has ``limit_each`` places, or all are taken and no other person has at least
                two more.
        """
        own = self._taken.get(person, {})
        displaced: Place | None = None
        if len(own) >= self._limit_each:
            if not self._displaces_own:
                raise NoSeat
            displaced = next(iter(own))
        elif len(self) >= self._limit:
            displaced = self._newest_of_most(len(own))
        if displaced is not None:
            self.leave(displaced)
        self._taken.setdefault(person, {})[place] = None
        self._person_of[place] = person
        return displaced

    def leave(self, place: Place) -> None:
        """Frees a place.

        Does nothing if the place was displaced or never taken.
        """
        if (person := self._person_of.pop(place, None)) is not None:
            del self._taken[person][place]
            if not self._taken[person]:
                del self._taken[person]

    def _newest_of_most(self, n_own: int) -> Place:
        most = max(self._taken.values(), key=len)
        if len(most) <= n_own + 1:
            raise NoSeat
        return next(reversed(most))
