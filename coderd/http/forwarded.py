"""Parses ``X-Forwarded-For``, whose word counts only from proxies that the operator has named. Pure.

    X-Forwarded-For: 203.0.113.7, 198.51.100.2      from 10.0.0.5
    ^ anybody may have written it   ^ written by the proxy at 10.0.0.5, if that is one of ours

So the field is read from its end: the first address that is no proxy of ours is the client's, and what stands before it is
its own tale. Without ``--proxy-trusted-origins`` nothing is believed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from coderd.model import limits
from coderd.model.addresses import canonical_ip

FORWARDED_FOR: Final = "x-forwarded-for"
FORWARDED_PROTO: Final = "x-forwarded-proto"
MAX_HOPS: Final = limits.MAX_PROXY_HOPS
"""Proxies in a row that are looked through; a longer tale is not believed at all."""


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The proxies whose word counts, and the fields in which they give it."""

    origins: tuple[IPv4Network | IPv6Network, ...] = ()
    headers: tuple[str, ...] = (FORWARDED_FOR,)
    """Names in lower case, looked for in this order."""

    def trusts(self, ip: str) -> bool:
        """Whether an address is one of the proxies'."""
        address = ip_address(ip)
        return any(address.version == network.version and address in network for network in self.origins)

    def client_of(self, peer: str, fields: Sequence[tuple[str, str]]) -> str:
        """The address that a request comes from.

        Args:
            peer: who is at the other end of the connection.
            fields: the request's, names in lower case.
        """
        if not self.origins or not self.trusts(peer):
            return peer
        for header in self.headers:
            hops = [hop for name, value in fields if name == header for hop in value.split(",")]
            if hops:
                return self._first_stranger(peer, hops)
        return peer

    def scheme_of(self, peer: str, fields: Sequence[tuple[str, str]], own: str) -> str:
        """As the client spoke HTTP to the proxy, in plain or by TLS; ``own`` where nobody who is trusted says so."""
        if not self.origins or not self.trusts(peer):
            return own
        said = next((value.strip().lower() for name, value in fields if name == FORWARDED_PROTO), "")
        return said if said in ("http", "https") else own

    def _first_stranger(self, peer: str, hops: list[str]) -> str:
        """From the end: the first address that is no proxy of ours. What is no address ends the tale where it is true yet."""
        client = peer
        for hop in reversed(hops[-MAX_HOPS:]):
            address = _address(hop)
            if address is None:
                return client
            client = address
            if not self.trusts(client):
                return client
        return client


NO_PROXIES: Final = TrustedProxies()
"""Trusts no proxy."""


def _address(hop: str) -> str | None:
    """An address, with or without a port and brackets; None for anything else."""
    text = hop.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return canonical_ip(str(ip_address(text.partition("%")[0])))
    except ValueError:
        return None
