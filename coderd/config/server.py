"""The settings of ``coderd server``: one table, and the configuration that it makes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from coderd.config.apps import APP_SETTINGS, AppOptions, parse_app_options
from coderd.config.derp import DERP_SETTINGS, DerpOptions, parse_derp_options
from coderd.config.kinds import ABSOLUTE_PATH, ADDRESS, SERVER_URL, parse_address
from coderd.config.lifetimes import LIFETIME_SETTINGS, LifetimeOptions, parse_lifetime_options
from coderd.config.proxies import (
    DEFAULT_HEADER,
    PROXY_SETTINGS,
    parse_prometheus,
    parse_proxy_headers,
    parse_proxy_origins,
)
from coderd.config.quotas import QUOTA_SETTINGS, parse_quotas
from coderd.config.sharing import SHARING_SETTINGS, SharingOptions, parse_sharing_options
from coderd.config.sources import Kind, Setting, Sources, Value, bad_value, parse_file
from coderd.config.tls import TLS_SETTINGS, TlsOptions, parse_listening
from coderd.config.url import ServerUrl
from coderd.model.addresses import AddrPort
from coderd.model.errors import Exit, UserError
from coderd.model.quotas import Quotas

DEFAULT_FILE = Path("/etc/coderd/server.toml")
DEFAULT_STATE_DIR = Path("/var/lib/coderd-server")
DEFAULT_HTTP_PORT = 3000
DEFAULT_STUN_ADDRESSES = (("::", 3478), ("::", 3479))
MAX_STUN_ADDRESSES = 8


def _stun_addresses(value: Value) -> tuple[AddrPort, ...]:
    """Parses addresses with commas between them, or ``off``. Raises UserError."""
    if value.text == "off":
        return ()
    addresses = tuple(parse_address(value, part.strip()) for part in value.text.split(","))
    if len(addresses) > MAX_STUN_ADDRESSES:
        raise bad_value(value, f"there are more than {MAX_STUN_ADDRESSES} addresses")
    return addresses


STUN_ADDRESSES = Kind("IP:PORT,...|off", _stun_addresses)

ACCESS_URL = Setting(
    "access_url",
    "CODER_ACCESS_URL",
    SERVER_URL,
    help="Where users and nodes reach this server.",
)
HTTP_ADDRESS = Setting(
    "http_address",
    "CODER_HTTP_ADDRESS",
    ADDRESS,
    help="Where to listen for HTTP.",
    shown_default="every address, the access URL's port",
)
STUN_ADDRESS = Setting(
    "stun_address",
    "CODERD_STUN_ADDRESS",
    STUN_ADDRESSES,
    help="Where to answer STUN, or off.",
    shown_default=":3478,:3479",
)
STATE_DIR = Setting(
    "state_dir",
    "CODERD_SERVER_STATE_DIR",
    ABSOLUTE_PATH,
    str(DEFAULT_STATE_DIR),
    "The directory of the database, the keys and the first admin's token.",
)
SERVER_SETTINGS = (
    ACCESS_URL,
    HTTP_ADDRESS,
    STUN_ADDRESS,
    STATE_DIR,
    *TLS_SETTINGS,
    *PROXY_SETTINGS,
    *DERP_SETTINGS,
    *APP_SETTINGS,
    *SHARING_SETTINGS,
    *QUOTA_SETTINGS,
    *LIFETIME_SETTINGS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Configuration of one server."""

    access_url: ServerUrl
    """Where users and nodes reach this server."""
    http_address: AddrPort | None = ("::", DEFAULT_HTTP_PORT)
    """Where it listens for plain HTTP; None = nowhere. ``::`` accepts IPv4 as well."""
    tls_address: AddrPort | None = None
    """Where it listens for TLS; None = nowhere."""
    tls: TlsOptions | None = None
    """Certificates and versions of TLS; None without TLS."""
    stun_addresses: tuple[AddrPort, ...] = DEFAULT_STUN_ADDRESSES
    """Where it answers STUN over UDP; empty = nowhere.

    Two ports on one address tell nodes more about their NAT.
    """
    state_dir: Path = DEFAULT_STATE_DIR
    derp: DerpOptions = field(default_factory=DerpOptions)
    """The relay map."""
    apps: AppOptions = field(default_factory=AppOptions)
    """Web apps."""
    sharing: SharingOptions = field(default_factory=SharingOptions)
    """How users may share workspaces."""
    quotas: Quotas = field(default_factory=Quotas)
    """How much one user may have."""
    lifetimes: LifetimeOptions = field(default_factory=LifetimeOptions)
    """How long sign-ins, tokens and devices last."""
    proxy_origins: tuple[IPv4Network | IPv6Network, ...] = ()
    """Trusted proxies, which name the client of each request they forward."""
    proxy_headers: tuple[str, ...] = (DEFAULT_HEADER,)
    """The headers in which a trusted proxy names the client, in lower case."""
    prometheus_address: AddrPort | None = None
    """Where metrics are served without a token; None = nowhere."""


def parse_server_config(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    file_text: str = "",
    file_path: str = str(DEFAULT_FILE),
) -> ServerConfig:
    """Returns the configuration out of flags (by setting name), environment and the file's text.

    Raises:
        UserError: with Exit.USAGE, naming the setting and where its value came from.
    """
    sources = Sources(flags, environment, parse_file(file_text, SERVER_SETTINGS, file_path))
    if (access_url := sources.given(ACCESS_URL)) is None:
        raise _no_access_url()
    derp = parse_derp_options(sources)
    stun_addresses = sources.given(STUN_ADDRESS)
    if stun_addresses is None:
        stun_addresses = DEFAULT_STUN_ADDRESSES
    listening = parse_listening(sources, access_url, sources.given(HTTP_ADDRESS), DEFAULT_HTTP_PORT)
    return ServerConfig(
        access_url=access_url,
        http_address=listening.http_address,
        tls_address=listening.tls_address,
        tls=listening.tls,
        stun_addresses=stun_addresses if derp.has_stun else (),
        state_dir=sources.get(STATE_DIR),
        derp=derp,
        apps=parse_app_options(sources),
        sharing=parse_sharing_options(sources),
        quotas=parse_quotas(sources),
        lifetimes=parse_lifetime_options(sources),
        proxy_origins=parse_proxy_origins(sources),
        proxy_headers=parse_proxy_headers(sources),
        prometheus_address=parse_prometheus(sources),
    )


def parse_server_state_dir(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    file_text: str = "",
    file_path: str = str(DEFAULT_FILE),
) -> Path:
    """Returns the state directory alone, for commands that need nothing else. Raises UserError."""
    return Sources(flags, environment, parse_file(file_text, SERVER_SETTINGS, file_path)).get(STATE_DIR)


def parse_server_lifetimes(
    environment: Mapping[str, str], file_text: str = "", file_path: str = str(DEFAULT_FILE)
) -> LifetimeOptions:
    """Returns the lifetimes alone, for commands that run beside the server. Raises UserError."""
    return parse_lifetime_options(Sources({}, environment, parse_file(file_text, SERVER_SETTINGS, file_path)))


def _no_access_url() -> UserError:
    return UserError(
        "the server does not know where it can be reached",
        exit_code=Exit.USAGE,
        hint=f"Give {ACCESS_URL.flag} http://ADDRESS:{DEFAULT_HTTP_PORT}, or set {ACCESS_URL.environment}.",
        code="no_access_url",
    )
