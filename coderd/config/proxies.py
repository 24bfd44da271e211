"""Which proxies stand before the server, and where Prometheus asks: options named as Coder names them."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network

from coderd.config.sources import Setting, Sources, Value, as_bool, bad_value
from coderd.config.tls import parse_address
from coderd.model.addresses import AddrPort

MAX_ORIGINS = 64
DEFAULT_HEADER = "x-forwarded-for"
DEFAULT_PROMETHEUS = "127.0.0.1:2112"

PROXY_ORIGINS = Setting("proxy_trusted_origins", "CODER_PROXY_TRUSTED_ORIGINS")
PROXY_HEADERS = Setting("proxy_trusted_headers", "CODER_PROXY_TRUSTED_HEADERS")
PROMETHEUS_ENABLE = Setting("prometheus_enable", "CODER_PROMETHEUS_ENABLE", "false")
PROMETHEUS_ADDRESS = Setting("prometheus_address", "CODER_PROMETHEUS_ADDRESS")
PROXY_SETTINGS = (PROXY_ORIGINS, PROXY_HEADERS, PROMETHEUS_ENABLE, PROMETHEUS_ADDRESS)

_HEADER = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)


def parse_proxy_origins(sources: Sources) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks of trusted proxies; none by default. Raises UserError."""
    value = sources.find(PROXY_ORIGINS)
    parts = _parts(value)
    if value is None or not parts:
        return ()
    if len(parts) > MAX_ORIGINS:
        raise bad_value(value, f"there are more than {MAX_ORIGINS} networks")
    try:
        networks = tuple(ip_network(part) for part in parts)
    except ValueError as error:
        raise bad_value(value, f"{error}", "Write networks as in 10.0.0.0/8,::1/128.") from None
    if any(network.prefixlen == 0 for network in networks):
        raise bad_value(value, "that is everybody, who could then claim any address")
    return networks


def parse_proxy_headers(sources: Sources) -> tuple[str, ...]:
    """The fields in which a trusted proxy names the client, in lower case. Raises UserError."""
    value = sources.find(PROXY_HEADERS)
    names = tuple(part.lower() for part in _parts(value))
    if value is None or not names:
        return (DEFAULT_HEADER,)
    if not all(_HEADER.fullmatch(name) for name in names):
        raise bad_value(value, "a header's name has letters, digits and hyphens", "Use X-Forwarded-For.")
    return names


def parse_prometheus(sources: Sources) -> AddrPort | None:
    """Where the metrics are served to whoever can reach it; None for nowhere. Raises UserError."""
    enable, address = sources.find(PROMETHEUS_ENABLE), sources.find(PROMETHEUS_ADDRESS)
    if address is not None:
        return parse_address(address, address.text)
    if enable is not None and as_bool(enable):
        return parse_address(enable, DEFAULT_PROMETHEUS)
    return None


def _parts(value: Value | None) -> list[str]:
    return [] if value is None else [part.strip() for part in value.text.split(",") if part.strip()]
