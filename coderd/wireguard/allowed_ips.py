"""Cryptokey routing (WireGuard paper §2): finds the peer of an address by the longest prefix that covers it.

One dict per prefix length is probed from long to short, behind a bounded cache of addresses, as a data path
looks up the same few addresses millions of times. Addresses are packed: 4 bytes for IPv4, 16 for IPv6.
"""

from bisect import insort
from collections.abc import Iterable
from typing import Generic, TypeVar

from coderd.wireguard.status import Network

T = TypeVar("T")

_CACHE_SIZE = 4096
"""Most addresses in the cache; a full cache is cleared, so that forged addresses cannot use up memory."""


class _Family(Generic[T]):
    """Prefixes of one address family, as ``length -> {network bits -> owner}``."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._lengths: list[int] = []
        """Prefix lengths in use, negated so that ascending order runs from long to short."""
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
    """Table from prefix to owner. A prefix has one owner; inserting it for another one moves it."""

    def __init__(self) -> None:
        self._families: dict[int, _Family[T]] = {4: _Family(32), 16: _Family(128)}
        self._owners: dict[Network, T] = {}
        """Owner of each prefix, in order of insertion, in which a peer's prefixes are listed."""
        self._cache: dict[bytes, T | None] = {}

    def insert(self, network: Network, owner: T) -> None:
        """Assigns a prefix to an owner; a prefix of another owner moves, to the end of the order."""
        if self._owners.get(network) is not owner:
            self._owners.pop(network, None)
        self._owners[network] = owner
        self._family(network).insert(int(network.network_address), network.prefixlen, owner)
        self._cache.clear()

    def remove(self, network: Network, owner: T) -> None:
        """Removes a prefix if this owner has it, and does nothing otherwise."""
        if self._owners.get(network) is owner:
            del self._owners[network]
            self._family(network).remove(int(network.network_address), network.prefixlen)
            self._cache.clear()

    def replace(self, owner: T, networks: Iterable[Network]) -> None:
        """Replaces all prefixes of an owner by ``networks``, which are taken from any other owner."""
        wanted = dict.fromkeys(networks)
        for network in self.networks(owner):
            if network not in wanted:
                self.remove(network, owner)
        for network in wanted:
            self.insert(network, owner)

    def networks(self, owner: T) -> list[Network]:
        """Returns an owner's prefixes, in order of insertion."""
        return [network for network, its_owner in self._owners.items() if its_owner is owner]

    def lookup(self, address: bytes) -> T | None:
        """Returns the owner of a packed address; None if no prefix covers it or its size is not 4 or 16."""
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
