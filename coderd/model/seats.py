"""Who may have how many of a bounded number of places, so that nobody takes all of them from the others.

Pure.

Each person has at most ``limit_each``. Where all places are taken, whoever has the fewest comes first: a
newcomer takes the newest place of whoever has the most, as long as that one keeps at least as many as the
newcomer then has.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

Place = TypeVar("Place", bound=Hashable)


class NoSeat(Exception):
    """There is no place for a newcomer, who has a fair share already."""


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
        """Gives a person one more place.

        Returns whose place that was, to be ended by the caller; None: it was free.

        Raises:
            NoSeat: the person has as many as one may have, or as anybody has while all are taken.
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

        One that was given to somebody else meanwhile, or never taken, is nobody's to free.
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
