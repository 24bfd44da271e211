"""Session indices: the 32 random bits by which a peer addresses one of our handshakes or keypairs."""

from typing import Generic, TypeVar

from coderd.model import RandomBytes

T = TypeVar("T")


class IndexTable(Generic[T]):
    """Maps the indices that we chose to what they stand for.

    Args:
        rng: indices are drawn at random, so that they say nothing of peers or of time.
    """

    def __init__(self, rng: RandomBytes) -> None:
        self._rng = rng
        self._entries: dict[int, T] = {}
        self.get = self._entries.get
        """``get(index)``: the entry or None. Bound once, as the data path asks for every batch."""

    def insert(self, entry: T) -> int:
        """Gives an entry a fresh index."""
        while (index := int.from_bytes(self._rng(4), "little")) in self._entries:
            pass
        self._entries[index] = entry
        return index

    def replace(self, index: int, entry: T) -> None:
        """Lets an index in use stand for something else: a handshake becomes its keypair."""
        if index not in self._entries:
            raise ValueError(f"index {index:#x} is not in use")
        self._entries[index] = entry

    def discard(self, index: int) -> None:
        """Forgets an index, in use or not."""
        self._entries.pop(index, None)

    def __len__(self) -> int:
        return len(self._entries)
