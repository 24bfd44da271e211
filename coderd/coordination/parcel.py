"""One ``peers`` message as it is filled."""

from typing import Any

from coderd.coordination.message import (
    MAX_ENTRIES,
    MAX_PARCEL,
    Absence,
    PeerEntry,
    Peers,
    Removal,
    encoded_size,
)


class Parcel:
    """One ``peers`` as it is filled.

    No list of it above ``MAX_ENTRIES``, all of it below ``MAX_PARCEL`` bytes.
    """

    def __init__(self) -> None:
        self._upsert: list[PeerEntry] = []
        self._remove: list[Removal] = []
        self._absent: list[Absence] = []
        self._n_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._upsert or self._remove or self._absent)

    def add(self, *entries: PeerEntry | Removal | Absence) -> bool:
        """Takes entries that belong together.

        False where there is no room for all of them: then it has taken none.

        An empty parcel takes anything.
        """
        n_bytes = sum(encoded_size(entry) + 1 for entry in entries)
        if self and (
            self._n_bytes + n_bytes > MAX_PARCEL
            or any(len(self._list_of(entry)) >= MAX_ENTRIES for entry in entries)
        ):
            return False
        self._n_bytes += n_bytes
        for entry in entries:
            self._list_of(entry).append(entry)
        return True

    def message(self, *, full: bool = False, more: bool = False) -> Peers:
        """Makes a message of the entries that were added."""
        return Peers(self._upsert, self._remove, self._absent, full=full, more=more)

    def _list_of(self, entry: PeerEntry | Removal | Absence) -> list[Any]:
        match entry:
            case PeerEntry():
                return self._upsert
            case Removal():
                return self._remove
            case Absence():
                return self._absent
