"""Session indices: 32 random bits by which a peer addresses a handshake or keypair of this end."""

from typing import Generic, TypeVar

from coderd.model import RandomBytes

T = TypeVar("T")


class IndexTable(Generic[T]):
    """Table from the indices that this end has chosen to their entries.

    Args:
        rng: for the indices, which so reveal nothing of peers or of time.
    """

    def __init__(self, rng: RandomBytes) -> None:
        self._rng = rng
        self._entries: dict[int, T] = {}
        self.get = self._entries.get
        """Lookup ``get(index)`` of an entry, None for an unknown index; bound once, as every received batch
        calls it."""

    def insert(self, entry: T) -> int:
        """Adds an entry under a new random index, which is returned."""
        while (index := int.from_bytes(self._rng(4), "little")) in self._entries:
            pass
        self._entries[index] = entry
        return index

    def replace(self, index: int, entry: T) -> None:
        """Replaces the entry of an index in use, as when a handshake becomes a keypair.

        Raises:
            ValueError: the index is not in use.
        """
        if index not in self._entries:
            raise ValueError(f"index {index:#x} is not in use")
        self._entries[index] = entry

    def discard(self, index: int) -> None:
        """Removes an index, if it is in use."""
        self._entries.pop(index, None)

    def __len__(self) -> int:
        return len(self._entries)
