"""What the server is told about relays: its own region, a map of others, and how nodes may use them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from coderd.config.derp_map import is_host_name, is_plain_text
from coderd.config.http_url import http_url
from coderd.config.sources import Setting, Sources, Value, as_bool, bad_value
from coderd.model.derpmap import EMBEDDED_REGION
from coderd.model.derpmap_json import MAX_REGION_ID
from coderd.model.errors import Exit, UserError

TAILSCALE_MAP = "https://controlplane.tailscale.com/derpmap/default"
DEFAULT_MAP = "default"
"""What ``--derp-config-url`` means without a value: Tailscale's published map."""
DISABLED = "disable"
DEFAULT_CODE = "coder"
DEFAULT_NAME = "Coder Embedded Relay"
MAX_STUN_SERVERS = 16
MIN_CLIENT_RATE = 16_384
"""Bytes a second: less would starve even handshakes."""
_MAX_RATE_DIGITS = 12
_DEFAULT_STUN_PORT = 3478

MAP_URL = Setting("derp_config_url", "CODER_DERP_CONFIG_URL")
MAP_PATH = Setting("derp_config_path", "CODER_DERP_CONFIG_PATH")
RELAY_ENABLE = Setting("derp_server_enable", "CODER_DERP_SERVER_ENABLE", "true")
REGION_ID = Setting("derp_server_region_id", "CODER_DERP_SERVER_REGION_ID", str(EMBEDDED_REGION))
REGION_CODE = Setting("derp_server_region_code", "CODER_DERP_SERVER_REGION_CODE", DEFAULT_CODE)
REGION_NAME = Setting("derp_server_region_name", "CODER_DERP_SERVER_REGION_NAME", DEFAULT_NAME)
STUN_SERVERS = Setting("derp_server_stun_addresses", "CODER_DERP_SERVER_STUN_ADDRESSES")
CLIENT_RATE = Setting("derp_server_client_rate", "CODERD_DERP_SERVER_CLIENT_RATE", "0")
FORCE_WEBSOCKETS = Setting("derp_force_websockets", "CODER_DERP_FORCE_WEBSOCKETS", "false")
BLOCK_DIRECT = Setting("block_direct_connections", "CODER_BLOCK_DIRECT", "false")
DERP_SETTINGS = (
    MAP_URL,
    MAP_PATH,
    RELAY_ENABLE,
    REGION_ID,
    REGION_CODE,
    REGION_NAME,
    STUN_SERVERS,
    CLIENT_RATE,
    FORCE_WEBSOCKETS,
    BLOCK_DIRECT,
)


class StunServer(NamedTuple):
    """Somebody's STUN server: a name or an IP literal, and its UDP port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DerpOptions:
    """Where the relay map comes from, and what it is made to say."""

    has_relay: bool = True
    """Whether the server itself relays."""
    region_id: int = EMBEDDED_REGION
    region_code: str = DEFAULT_CODE
    region_name: str = DEFAULT_NAME
    map_url: str = ""
    """Fetched at the start and again every few minutes; empty = no such map."""
    map_path: Path | None = None
    """Read at the start and whenever it changes."""
    has_stun: bool = True
    """Whether the map names the server's own STUN responder."""
    stun_servers: tuple[StunServer, ...] = ()
    """Others, each a region of its own."""
    client_rate: int = 0
    """Bytes a second that the relay takes from one connection; 0 = as many as come."""
    forces_websockets: bool = False
    blocks_direct: bool = False
    """All traffic goes by relay: nobody learns addresses, and nobody is asked for them."""


def parse_derp_options(sources: Sources) -> DerpOptions:
    """The options out of all sources. Raises UserError with Exit.USAGE, naming the setting and its origin."""
    map_url, map_path = sources.find(MAP_URL), sources.find(MAP_PATH)
    if map_url is not None and map_path is not None:
        raise _contradiction(map_url, map_path)
    stun_servers = _stun_servers(sources.find(STUN_SERVERS))
    options = DerpOptions(
        has_relay=as_bool(sources.get(RELAY_ENABLE)),
        region_id=_region_id(sources.get(REGION_ID), n_following=len(stun_servers or ())),
        region_code=_name(sources.get(REGION_CODE)),
        region_name=_name(sources.get(REGION_NAME)),
        map_url=_map_url(map_url) if map_url is not None else "",
        map_path=Path(map_path.text) if map_path is not None else None,
        has_stun=stun_servers is not None,
        stun_servers=stun_servers or (),
        client_rate=_client_rate(sources.get(CLIENT_RATE)),
        forces_websockets=as_bool(sources.get(FORCE_WEBSOCKETS)),
        blocks_direct=as_bool(sources.get(BLOCK_DIRECT)),
    )
    if not (options.has_relay or options.map_url or options.map_path):
        raise _no_relay(sources.get(RELAY_ENABLE))
    return options


def _map_url(value: Value) -> str:
    if value.text == DEFAULT_MAP:
        return TAILSCALE_MAP
    return http_url(value, f"Leave the value out for Tailscale's map, {TAILSCALE_MAP}.")


def _region_id(value: Value, n_following: int) -> int:
    is_number = value.text.isascii() and value.text.isdigit() and len(value.text) <= len(str(MAX_REGION_ID))
    if not is_number or not 0 < int(value.text) <= MAX_REGION_ID - n_following:
        raise bad_value(value, f"it must be a number from 1 to {MAX_REGION_ID - n_following}")
    return int(value.text)


def _client_rate(value: Value) -> int:
    is_number = value.text.isascii() and value.text.isdigit() and len(value.text) <= _MAX_RATE_DIGITS
    if not is_number or 0 < int(value.text) < MIN_CLIENT_RATE:
        raise bad_value(
            value, f"it must be a number of bytes per second from {MIN_CLIENT_RATE}, or 0 for no limit"
        )
    return int(value.text)


def _name(value: Value) -> str:
    if not value.text.strip() or not is_plain_text(value.text):
        raise bad_value(value, "it must be a short text of printable characters")
    return value.text


def _stun_servers(value: Value | None) -> tuple[StunServer, ...] | None:
    """The servers; none given means our own alone, and None means none at all, not even our own."""
    if value is None or not value.text.strip():
        return ()
    if value.text.strip() == DISABLED:
        return None
    servers = tuple(_stun_server(value, part.strip()) for part in value.text.split(","))
    if len(servers) > MAX_STUN_SERVERS:
        raise bad_value(value, f"there are more than {MAX_STUN_SERVERS} addresses")
    return servers


def _stun_server(value: Value, text: str) -> StunServer:
    """``host:port``, ``host``, ``[ipv6]:port`` or ``[ipv6]``."""
    try:
        parts = urlsplit(f"stun://{text}")
        host, port = parts.hostname or "", parts.port
        if is_host_name(host) and port != 0 and parts.netloc == text and "@" not in text:
            return StunServer(host, port or _DEFAULT_STUN_PORT)
    except ValueError:
        pass
    raise bad_value(
        value,
        f"{text!r} is no host:port pair",
        f"Write it as in stun.example.com:3478, several with commas, or {DISABLED}.",
    )


def _contradiction(map_url: Value, map_path: Value) -> UserError:
    return UserError(
        f"there can be only one DERP map, and both {map_url.origin} and {map_path.origin} name one",
        exit_code=Exit.USAGE,
        hint="Give the URL or the path, not both.",
        code="two_derp_maps",
    )


def _no_relay(value: Value) -> UserError:
    return UserError(
        f"there would be no relay at all: {value.origin} is {value.text}, and no DERP map names others",
        exit_code=Exit.USAGE,
        hint=f"Give {MAP_PATH.flag} or {MAP_URL.flag}, or leave the server's relay on.",
        code="no_relay",
    )
