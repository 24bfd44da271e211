"""The settings of ``coderd server`` about proxies and Prometheus, named as Coder names them."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from coderd.config.kinds import ADDRESS, SWITCH, parse_address, parts_of
from coderd.config.sources import Kind, Setting, Sources, Value, bad_value
from coderd.model.addresses import AddrPort

MAX_ORIGINS = 64
DEFAULT_HEADER: Final = "x-forwarded-for"
DEFAULT_PROMETHEUS = "127.0.0.1:2112"

_HEADER = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)


def _networks(value: Value) -> tuple[IPv4Network | IPv6Network, ...]:
    parts = parts_of(value)
    if len(parts) > MAX_ORIGINS:
        raise bad_value(value, f"there are more than {MAX_ORIGINS} networks")
    try:
        networks = tuple(ip_network(part) for part in parts)
    except ValueError as error:
        raise bad_value(value, f"{error}", "Write networks as in 10.0.0.0/8,::1/128.") from None
    if any(network.prefixlen == 0 for network in networks):
        raise bad_value(value, "that is everyone, who could then claim any address")
    return networks


def _headers(value: Value) -> tuple[str, ...]:
    names = tuple(part.lower() for part in parts_of(value))
    if not all(_HEADER.fullmatch(name) for name in names):
        raise bad_value(value, "a header's name has letters, digits and hyphens", "Use X-Forwarded-For.")
    return names


PROXY_ORIGINS = Setting(
    "proxy_trusted_origins",
    "CODER_PROXY_TRUSTED_ORIGINS",
    Kind("CIDR", _networks, is_list=True),
    help="Networks of trusted proxies, which name the client of each request they forward. May repeat.",
)
PROXY_HEADERS = Setting(
    "proxy_trusted_headers",
    "CODER_PROXY_TRUSTED_HEADERS",
    Kind("NAME", _headers, is_list=True),
    help="The headers in which a trusted proxy names the client. May repeat.",
    shown_default="X-Forwarded-For",
)
PROMETHEUS_ENABLE = Setting(
    "prometheus_enable",
    "CODER_PROMETHEUS_ENABLE",
    SWITCH,
    "false",
    f"Serve metrics at {DEFAULT_PROMETHEUS} without a token, too.",
)
PROMETHEUS_ADDRESS = Setting(
    "prometheus_address",
    "CODER_PROMETHEUS_ADDRESS",
    ADDRESS,
    help="Serve metrics without a token at this address.",
)
PROXY_SETTINGS = (PROXY_ORIGINS, PROXY_HEADERS, PROMETHEUS_ENABLE, PROMETHEUS_ADDRESS)


def parse_proxy_origins(sources: Sources) -> tuple[IPv4Network | IPv6Network, ...]:
    """Returns the networks of trusted proxies; none by default. Raises UserError."""
    return sources.given(PROXY_ORIGINS) or ()


def parse_proxy_headers(sources: Sources) -> tuple[str, ...]:
    """Returns the headers in which a trusted proxy names the client, in lower case. Raises UserError."""
    return sources.given(PROXY_HEADERS) or (DEFAULT_HEADER,)


def parse_prometheus(sources: Sources) -> AddrPort | None:
    """Returns where metrics are served without a token; None for nowhere. Raises UserError."""
    if (address := sources.given(PROMETHEUS_ADDRESS)) is not None:
        return address
    if sources.get(PROMETHEUS_ENABLE):
        return parse_address(Value(DEFAULT_PROMETHEUS, "the default"), DEFAULT_PROMETHEUS)
    return None
