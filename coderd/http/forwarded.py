"""Parses ``X-Forwarded-For``, which is believed only from trusted proxies. Pure.

    X-Forwarded-For: 203.0.113.7, 198.51.100.2      from 10.0.0.5
    ^ any client can send this      ^ appended by the proxy at 10.0.0.5, if that is trusted

The field is therefore read from its end: the first address that is not a trusted proxy's is the client's, and
addresses before it are the client's own claim. Without ``--proxy-trusted-origins`` the field is ignored.
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
"""Most addresses that are read, from the field's end; addresses before them are ignored."""


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks of trusted proxies, and the header fields in which they report the client's address."""

    origins: tuple[IPv4Network | IPv6Network, ...] = ()
    headers: tuple[str, ...] = (FORWARDED_FOR,)
    """Field names in lower case; the first one that a request has is read."""

    def trusts(self, ip: str) -> bool:
        """Returns whether an IP address belongs to a trusted proxy."""
        address = ip_address(ip)
        return any(address.version == network.version and address in network for network in self.origins)

    def client_of(self, peer: str, fields: Sequence[tuple[str, str]]) -> str:
        """Returns the IP address of the client that sent a request.

        Args:
            peer: the IP address at the other end of the connection.
            fields: names, in lower case, and values of the request's header fields.
        """
        if not self.origins or not self.trusts(peer):
            return peer
        for header in self.headers:
            hops = [hop for name, value in fields if name == header for hop in value.split(",")]
            if hops:
                return self._first_stranger(peer, hops)
        return peer

    def scheme_of(self, peer: str, fields: Sequence[tuple[str, str]], own: str) -> str:
        """Returns the scheme, ``http`` or ``https``, that the client spoke to a trusted proxy.

        Args:
            peer: the IP address at the other end of the connection.
            fields: names, in lower case, and values of the request's header fields.
            own: the scheme of the connection itself, returned where the peer is not trusted or does not send
                the field.
        """
        if not self.origins or not self.trusts(peer):
            return own
        said = next((value.strip().lower() for name, value in fields if name == FORWARDED_PROTO), "")
        return said if said in ("http", "https") else own

    def _first_stranger(self, peer: str, hops: list[str]) -> str:
        """Returns the last hop that is not a trusted proxy's, searching backwards until an invalid one."""
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
"""The setting without trusted proxies: the connection's address is the client's."""


def _address(hop: str) -> str | None:
    """Parses an address, with or without port and brackets; returns None if it is invalid."""
    text = hop.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return canonical_ip(str(ip_address(text.partition("%")[0])))
    except ValueError:
        return None
