"""Cryptokey routing: which peer an address belongs to, by the longest prefix that covers it.

One dict per prefix length, probed from long to short, behind a bounded cache of addresses, as a data path asks for
the same few addresses millions of times. Addresses are packed bytes: 4 of them or 16.
"""

from bisect import insort
from collections.abc import Iterable
from typing import Generic, TypeVar

from coderd.wireguard.status import Network

T = TypeVar("T")

_CACHE_SIZE = 4096
"""Addresses remembered; forged destinations only cost us the cache, never memory."""


class _Family(Generic[T]):
    """Prefixes of one address family, as ``length -> {network bits -> owner}``."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._lengths: list[int] = []
        """Negated, so that the sorted list runs from long to short."""
        self._tables: dict[int, dict[int, T]] = {}

    def insert(self, bits: int, length: int, owner: T) -> None:
        if length not in self._tables:
            self._tables[length] = {}
            insort(self._lengths, -length)
        self._tables[length][bits >> (self._width - length)] = owner

    def remove(self, bits: int, length: int) -> None:
        table = self._tables[length]
        del table[bits >> (self._width - length)]
        if not table:
            del self._tables[length]
            self._lengths.remove(-length)

    def lookup(self, address: int) -> T | None:
        for negated in self._lengths:
            owner = self._tables[-negated].get(address >> (self._width + negated))
            if owner is not None:
                return owner
        return None


class AllowedIps(Generic[T]):
    """Prefix to owner; a prefix has one owner, and inserting it again moves it."""

    def __init__(self) -> None:
        self._families: dict[int, _Family[T]] = {4: _Family(32), 16: _Family(128)}
        self._owners: dict[Network, T] = {}
        """In insertion order, which is the order in which a peer's prefixes are listed."""
        self._cache: dict[bytes, T | None] = {}

    def insert(self, network: Network, owner: T) -> None:
        """Gives a prefix to an owner, taking it from any other."""
        if self._owners.get(network) is not owner:
            self._owners.pop(network, None)
        self._owners[network] = owner
        self._family(network).insert(int(network.network_address), network.prefixlen, owner)
        self._cache.clear()

    def remove(self, network: Network, owner: T) -> None:
        """Takes a prefix away, if this owner has it."""
        if self._owners.get(network) is owner:
            del self._owners[network]
            self._family(network).remove(int(network.network_address), network.prefixlen)
            self._cache.clear()

    def replace(self, owner: T, networks: Iterable[Network]) -> None:
        """Makes ``networks`` all that an owner has."""
        wanted = dict.fromkeys(networks)
        for network in self.networks(owner):
            if network not in wanted:
                self.remove(network, owner)
        for network in wanted:
            self.insert(network, owner)

    def networks(self, owner: T) -> list[Network]:
        """What an owner has, in order of insertion."""
        return [network for network, its_owner in self._owners.items() if its_owner is owner]

    def lookup(self, address: bytes) -> T | None:
        """The owner of a packed address, None where no prefix covers it or it has neither 4 nor 16 bytes."""
        try:
            return self._cache[address]
        except KeyError:
            pass
        family = self._families.get(len(address))
        owner = family.lookup(int.from_bytes(address, "big")) if family else None
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[address] = owner
        return owner

    def _family(self, network: Network) -> _Family[T]:
        return self._families[network.max_prefixlen // 8]
