"""Everything that ``coderd server`` is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from coderd.config.apps import APP_SETTINGS, AppOptions, parse_app_options
from coderd.config.derp import DERP_SETTINGS, DerpOptions, parse_derp_options
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
from coderd.config.sources import Setting, Sources, Value, absolute_path, bad_value, parse_file
from coderd.config.tls import TLS_SETTINGS, TlsOptions, parse_address, parse_listening
from coderd.config.url import ServerUrl, parse_server_url
from coderd.model.addresses import AddrPort
from coderd.model.errors import Exit, UserError
from coderd.model.quotas import Quotas

DEFAULT_FILE = Path("/etc/coderd/server.toml")
DEFAULT_STATE_DIR = Path("/var/lib/coderd-server")
DEFAULT_HTTP_PORT = 3000
DEFAULT_STUN_ADDRESSES = (("::", 3478), ("::", 3479))
MAX_STUN_ADDRESSES = 8

ACCESS_URL = Setting("access_url", "CODER_ACCESS_URL")
HTTP_ADDRESS = Setting("http_address", "CODER_HTTP_ADDRESS")
STUN_ADDRESS = Setting("stun_address", "CODERD_STUN_ADDRESS")
STATE_DIR = Setting("state_dir", "CODERD_SERVER_STATE_DIR", str(DEFAULT_STATE_DIR))
SETTINGS = (
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
    """One server's options."""

    access_url: ServerUrl
    """Where everybody reaches this server."""
    http_address: AddrPort | None = ("::", DEFAULT_HTTP_PORT)
    """Where it listens for plain HTTP, None = nowhere; ``::`` takes IPv4 too."""
    tls_address: AddrPort | None = None
    """Where it listens for TLS."""
    tls: TlsOptions | None = None
    """How it speaks TLS, if it does."""
    stun_addresses: tuple[AddrPort, ...] = DEFAULT_STUN_ADDRESSES
    """Where it answers STUN over UDP; empty = nowhere. Two ports on one address tell nodes more about their NAT."""
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
    """Proxies that may say whose request they hand on."""
    proxy_headers: tuple[str, ...] = (DEFAULT_HEADER,)
    """The fields in which they do, in lower case."""
    prometheus_address: AddrPort | None = None
    """Where metrics are served without a token; None = nowhere."""


def parse_server_config(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    file_text: str = "",
    file_path: str = str(DEFAULT_FILE),
) -> ServerConfig:
    """The configuration out of flags (by setting name), environment and the file's text.

    Raises:
        UserError: with Exit.USAGE, naming the setting and where its value came from.
    """
    sources = Sources(flags, environment, parse_file(file_text, SETTINGS, file_path))
    access_url = _access_url(sources.find(ACCESS_URL))
    derp = parse_derp_options(sources)
    stun_addresses = parse_stun_addresses(sources.find(STUN_ADDRESS))
    http_address = sources.find(HTTP_ADDRESS)
    listening = parse_listening(
        sources,
        access_url,
        parse_address(http_address, http_address.text) if http_address else None,
        DEFAULT_HTTP_PORT,
    )
    return ServerConfig(
        access_url=access_url,
        http_address=listening.http_address,
        tls_address=listening.tls_address,
        tls=listening.tls,
        stun_addresses=stun_addresses if derp.has_stun else (),
        state_dir=absolute_path(sources.get(STATE_DIR)),
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
    """Where a server's state is, for commands that need nothing else of it. Raises UserError."""
    return absolute_path(
        Sources(flags, environment, parse_file(file_text, SETTINGS, file_path)).get(STATE_DIR)
    )


def parse_server_lifetimes(
    environment: Mapping[str, str], file_text: str = "", file_path: str = str(DEFAULT_FILE)
) -> LifetimeOptions:
    """How long what a server lets in may stay, for commands beside it. Raises UserError."""
    return parse_lifetime_options(Sources({}, environment, parse_file(file_text, SETTINGS, file_path)))


def _access_url(value: Value | None) -> ServerUrl:
    if value is None:
        raise UserError(
            "the server does not know where it can be reached",
            exit_code=Exit.USAGE,
            hint=f"Give {ACCESS_URL.flag} http://ADDRESS:{DEFAULT_HTTP_PORT}, or set {ACCESS_URL.environment}.",
            code="no_access_url",
        )
    return parse_server_url(value.text)


def parse_stun_addresses(value: Value | None) -> tuple[AddrPort, ...]:
    """Addresses with commas, or ``off``. Raises UserError."""
    if value is None:
        return DEFAULT_STUN_ADDRESSES
    if value.text == "off":
        return ()
    addresses = tuple(parse_address(value, part.strip()) for part in value.text.split(","))
    if len(addresses) > MAX_STUN_ADDRESSES:
        raise bad_value(value, f"there are more than {MAX_STUN_ADDRESSES} addresses")
    return addresses
