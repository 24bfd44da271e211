"""The settings of ``coderd derp``: a relay alone, for a region of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coderd.config.http_url import http_url
from coderd.config.kinds import ABSOLUTE_PATH, ADDRESS, SERVER_URL, SWITCH, TEXT, number
from coderd.config.server import STUN_ADDRESSES
from coderd.config.sources import Kind, Setting, Sources, parse_file
from coderd.config.tls import TLS_SETTINGS, TlsOptions, parse_listening
from coderd.config.url import ServerUrl
from coderd.model.addresses import AddrPort
from coderd.model.derpmap_json import MAX_REGION_ID
from coderd.model.errors import Exit, UserError

DEFAULT_FILE = Path("/etc/coderd/derp.toml")
DEFAULT_STATE_DIR = Path("/var/lib/coderd-derp")
DEFAULT_PORT = 3340
DEFAULT_STUN_ADDRESSES = (("::", 3478),)

ACCESS_URL = Setting(
    "access_url",
    "CODERD_DERP_ACCESS_URL",
    SERVER_URL,
    help="Where clients reach this relay.",
    shown_default="http, this host's name",
)
VERIFY_URL = Setting(
    "verify_url",
    "CODERD_DERP_VERIFY_URL",
    Kind("URL", lambda value: http_url(value, "A coderd server answers at /derp/verify.")),
    help="Serve only clients that this server knows: https://SERVER/derp/verify.",
)
ALLOW_ANY_CLIENT = Setting(
    "allow_any_client",
    "CODERD_DERP_ALLOW_ANY_CLIENT",
    SWITCH,
    "false",
    "Serve every client, known or not.",
)
HTTP_ADDRESS = Setting(
    "http_address",
    "CODERD_DERP_HTTP_ADDRESS",
    ADDRESS,
    help="Where to listen for HTTP.",
    shown_default="every address, the URL's port",
)
STUN_ADDRESS = Setting(
    "stun_address",
    "CODERD_DERP_STUN_ADDRESS",
    STUN_ADDRESSES,
    help="Where to answer STUN, or off.",
    shown_default=":3478",
)
STATE_DIR = Setting(
    "state_dir",
    "CODERD_DERP_STATE_DIR",
    ABSOLUTE_PATH,
    str(DEFAULT_STATE_DIR),
    "The directory of the relay's key and certificate.",
)
REGION_ID = Setting(
    "region_id",
    "CODERD_DERP_REGION_ID",
    number(1, MAX_REGION_ID),
    "1",
    "The region number in the map that the relay prints.",
)
REGION_CODE = Setting(
    "region_code", "CODERD_DERP_REGION_CODE", TEXT, "derp", "The region's short name.", "CODE"
)
RELAY_SETTINGS = (
    ACCESS_URL,
    VERIFY_URL,
    ALLOW_ANY_CLIENT,
    HTTP_ADDRESS,
    STUN_ADDRESS,
    STATE_DIR,
    REGION_ID,
    REGION_CODE,
    *TLS_SETTINGS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """Configuration of one relay."""

    access_url: ServerUrl
    """Where clients reach it, as the region that it prints says."""
    http_address: AddrPort | None
    tls_address: AddrPort | None
    tls: TlsOptions | None
    stun_addresses: tuple[AddrPort, ...] = DEFAULT_STUN_ADDRESSES
    state_dir: Path = DEFAULT_STATE_DIR
    verify_url: str | None
    """Answers whether a client may use this relay; None = every client may."""
    region_id: int = 1
    region_code: str = "derp"


def parse_relay_config(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    file_text: str = "",
    file_path: str = str(DEFAULT_FILE),
    *,
    host_name: str,
) -> RelayConfig:
    """Returns the configuration out of flags (by setting name), environment and the file's text.

    Args:
        flags: by setting name.
        environment: the process's.
        file_text: the file's content.
        file_path: its name, for errors.
        host_name: this machine's, for the default access URL.

    Raises:
        UserError: with Exit.USAGE, naming the setting and where its value came from.
    """
    sources = Sources(flags, environment, parse_file(file_text, RELAY_SETTINGS, file_path))
    http_address = sources.given(HTTP_ADDRESS)
    default_url = ServerUrl("http", host_name, http_address[1] if http_address else DEFAULT_PORT)
    access_url = sources.given(ACCESS_URL) or default_url
    listening = parse_listening(sources, access_url, http_address, DEFAULT_PORT)
    stun_addresses = sources.given(STUN_ADDRESS)
    return RelayConfig(
        access_url=access_url,
        http_address=listening.http_address,
        tls_address=listening.tls_address,
        tls=listening.tls,
        stun_addresses=DEFAULT_STUN_ADDRESSES if stun_addresses is None else stun_addresses,
        state_dir=sources.get(STATE_DIR),
        verify_url=_admission(sources),
        region_id=sources.get(REGION_ID),
        region_code=sources.get(REGION_CODE),
    )


def _admission(sources: Sources) -> str | None:
    """Returns the URL that says who may use this relay, None for every client.

    Raises UserError unless one is chosen.
    """
    url, is_open = sources.given(VERIFY_URL), sources.get(ALLOW_ANY_CLIENT)
    if (url is not None) == is_open:
        wrong = "both are given" if is_open else "neither is given"
        raise UserError(
            f"a relay must know whom it serves: {VERIFY_URL.flag} or {ALLOW_ANY_CLIENT.flag}, and {wrong}",
            exit_code=Exit.USAGE,
            hint=f"For your team alone: {VERIFY_URL.flag} https://SERVER/derp/verify."
            f" With {ALLOW_ANY_CLIENT.flag} everyone may use it.",
            code="no_admission",
        )
    return url
