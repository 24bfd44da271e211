"""The settings of ``coderd server`` about relays.

Its own region, a map of others, and how nodes may use them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from coderd.config.derp_map import is_host_name, is_plain_text
from coderd.config.http_url import http_url
from coderd.config.kinds import SWITCH, number
from coderd.config.sources import Kind, Setting, Sources, Value, bad_value
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
"""Bytes per second; a lower rate would starve even handshakes."""
MAX_CLIENT_RATE = 10**12 - 1
_DEFAULT_STUN_PORT = 3478


class StunServer(NamedTuple):
    """A STUN server: a name or an IP literal, and its UDP port."""

    host: str
    port: int


def _map_url(value: Value) -> str:
    if value.text == DEFAULT_MAP:
        return TAILSCALE_MAP
    return http_url(value, f"Leave the value out for Tailscale's map, {TAILSCALE_MAP}.")


def _client_rate(value: Value) -> int:
    why = f"it must be a number of bytes per second from {MIN_CLIENT_RATE}, or 0 for no limit"
    rate = number(0, MAX_CLIENT_RATE, why).parse(value)
    if 0 < rate < MIN_CLIENT_RATE:
        raise bad_value(value, why)
    return rate


def _name(value: Value) -> str:
    if not value.text.strip() or not is_plain_text(value.text):
        raise bad_value(value, "it must be a short text of printable characters")
    return value.text


def _stun_servers(value: Value) -> tuple[StunServer, ...] | None:
    """Parses STUN servers with commas between them.

    Returns None where STUN is disabled, the server's own included.
    """
    if not value.text.strip():
        return ()
    if value.text.strip() == DISABLED:
        return None
    servers = tuple(_stun_server(value, part.strip()) for part in value.text.split(","))
    if len(servers) > MAX_STUN_SERVERS:
        raise bad_value(value, f"there are more than {MAX_STUN_SERVERS} addresses")
    return servers


def _stun_server(value: Value, text: str) -> StunServer:
    """Parses ``host:port``, ``host``, ``[ipv6]:port`` or ``[ipv6]``."""
    try:
        parts = urlsplit(f"stun://{text}")
        host, port = parts.hostname or "", parts.port
        if is_host_name(host) and port != 0 and parts.netloc == text and "@" not in text:
            return StunServer(host, port or _DEFAULT_STUN_PORT)
    except ValueError:
        pass
    raise bad_value(
        value,
        f"{text!r} is not a host:port pair",
        f"Write it as in stun.example.com:3478, several with commas, or {DISABLED}.",
    )


MAP_URL = Setting(
    "derp_config_url",
    "CODER_DERP_CONFIG_URL",
    Kind("[URL]", _map_url),
    help="A map of further relays, fetched every 10 minutes. Without a value: Tailscale's published map.",
    bare=DEFAULT_MAP,
)
MAP_PATH = Setting(
    "derp_config_path",
    "CODER_DERP_CONFIG_PATH",
    Kind("PATH", lambda value: Path(value.text)),
    help="A file with a map of further relays, read again whenever it changes.",
)
RELAY_ENABLE = Setting(
    "derp_server_enable",
    "CODER_DERP_SERVER_ENABLE",
    SWITCH,
    "true",
    "Run a relay in this server.",
    has_negation=True,
)
REGION_ID = Setting(
    "derp_server_region_id",
    "CODER_DERP_SERVER_REGION_ID",
    number(1, MAX_REGION_ID),
    str(EMBEDDED_REGION),
    "The region number of this server's relay.",
)
REGION_CODE = Setting(
    "derp_server_region_code",
    "CODER_DERP_SERVER_REGION_CODE",
    Kind("CODE", _name),
    DEFAULT_CODE,
    "The region's short name.",
)
REGION_NAME = Setting(
    "derp_server_region_name",
    "CODER_DERP_SERVER_REGION_NAME",
    Kind("NAME", _name),
    DEFAULT_NAME,
    "The region's long name.",
)
STUN_SERVERS = Setting(
    "derp_server_stun_addresses",
    "CODER_DERP_SERVER_STUN_ADDRESSES",
    Kind("HOST:PORT,...", _stun_servers),
    help=f"Further STUN servers; {DISABLED}: no STUN at all, not even this server's.",
    shown_default="this server's own",
)
CLIENT_RATE = Setting(
    "derp_server_client_rate",
    "CODERD_DERP_SERVER_CLIENT_RATE",
    Kind("BYTES", _client_rate),
    "0",
    "The most bytes per second that one node may send through this server's relay; 0: no limit.",
)
FORCE_WEBSOCKETS = Setting(
    "derp_force_websockets",
    "CODER_DERP_FORCE_WEBSOCKETS",
    SWITCH,
    "false",
    "Nodes reach relays by WebSocket from the start.",
)
BLOCK_DIRECT = Setting(
    "block_direct_connections",
    "CODER_BLOCK_DIRECT",
    SWITCH,
    "false",
    "Send all traffic through relays, never directly.",
)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DerpOptions:
    """Where the relay map comes from, and what the server adds to it."""

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
    """Further STUN servers, each a region of its own in the map."""
    client_rate: int = 0
    """Bytes per second that the relay accepts from one connection; 0 = no limit."""
    force_websockets: bool = False
    """Whether nodes reach relays by WebSocket from the start."""
    blocks_direct: bool = False
    """Whether all traffic goes through relays; nodes then neither send nor learn addresses."""


def parse_derp_options(sources: Sources) -> DerpOptions:
    """Returns the options out of all sources.

    Raises UserError with Exit.USAGE, naming the setting and its origin.
    """
    map_url, map_path = sources.find(MAP_URL), sources.find(MAP_PATH)
    if map_url is not None and map_path is not None:
        raise _contradiction(map_url, map_path)
    stun_servers = () if sources.find(STUN_SERVERS) is None else sources.given(STUN_SERVERS)
    options = DerpOptions(
        has_relay=sources.get(RELAY_ENABLE),
        region_id=_region_id(sources, n_following=len(stun_servers or ())),
        region_code=sources.get(REGION_CODE),
        region_name=sources.get(REGION_NAME),
        map_url=sources.given(MAP_URL) or "",
        map_path=sources.given(MAP_PATH),
        has_stun=stun_servers is not None,
        stun_servers=stun_servers or (),
        client_rate=sources.get(CLIENT_RATE),
        force_websockets=sources.get(FORCE_WEBSOCKETS),
        blocks_direct=sources.get(BLOCK_DIRECT),
    )
    if not (options.has_relay or options.map_url or options.map_path):
        raise _no_relay(sources.find(RELAY_ENABLE))
    return options


def _region_id(sources: Sources, n_following: int) -> int:
    """Returns the server's region.

    STUN servers follow it, a number each, and must fit below ``MAX_REGION_ID``.
    """
    value = sources.find(REGION_ID)
    assert value is not None
    return number(1, MAX_REGION_ID - n_following).parse(value)


def _contradiction(map_url: Value, map_path: Value) -> UserError:
    return UserError(
        f"there can be only one DERP map, and both {map_url.origin} and {map_path.origin} name one",
        exit_code=Exit.USAGE,
        hint="Give the URL or the path, not both.",
        code="two_derp_maps",
    )


def _no_relay(value: Value | None) -> UserError:
    assert value is not None
    return UserError(
        f"there would be no relay at all: {value.origin} is {value.text}, and no DERP map names others",
        exit_code=Exit.USAGE,
        hint=f"Give {MAP_PATH.flag} or {MAP_URL.flag}, or leave the server's relay on.",
        code="no_relay",
    )
