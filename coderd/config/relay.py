"""Everything that ``coderd derp`` is told: a relay alone, for a region of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coderd.config.http_url import http_url
from coderd.config.server import parse_stun_addresses
from coderd.config.sources import Setting, Sources, Value, absolute_path, as_bool, bad_value, parse_file
from coderd.config.tls import TLS_SETTINGS, TlsOptions, parse_address, parse_listening
from coderd.config.url import ServerUrl, parse_server_url
from coderd.model.addresses import AddrPort
from coderd.model.derpmap_json import MAX_REGION_ID
from coderd.model.errors import Exit, UserError

DEFAULT_FILE = Path("/etc/coderd/derp.toml")
DEFAULT_STATE_DIR = Path("/var/lib/coderd-derp")
DEFAULT_PORT = 3340
DEFAULT_STUN_ADDRESSES = (("::", 3478),)

ACCESS_URL = Setting("access_url", "CODERD_DERP_ACCESS_URL")
HTTP_ADDRESS = Setting("http_address", "CODERD_DERP_HTTP_ADDRESS")
STUN_ADDRESS = Setting("stun_address", "CODERD_DERP_STUN_ADDRESS")
STATE_DIR = Setting("state_dir", "CODERD_DERP_STATE_DIR", str(DEFAULT_STATE_DIR))
VERIFY_URL = Setting("verify_url", "CODERD_DERP_VERIFY_URL")
ALLOW_ANY_CLIENT = Setting("allow_any_client", "CODERD_DERP_ALLOW_ANY_CLIENT", "false")
REGION_ID = Setting("region_id", "CODERD_DERP_REGION_ID", "1")
REGION_CODE = Setting("region_code", "CODERD_DERP_REGION_CODE", "derp")
RELAY_SETTINGS = (
    ACCESS_URL,
    HTTP_ADDRESS,
    STUN_ADDRESS,
    STATE_DIR,
    VERIFY_URL,
    ALLOW_ANY_CLIENT,
    REGION_ID,
    REGION_CODE,
    *TLS_SETTINGS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """One relay's options."""

    access_url: ServerUrl
    """Where clients reach it: what the region that it prints says."""
    http_address: AddrPort | None
    tls_address: AddrPort | None
    tls: TlsOptions | None
    stun_addresses: tuple[AddrPort, ...] = DEFAULT_STUN_ADDRESSES
    state_dir: Path = DEFAULT_STATE_DIR
    verify_url: str | None
    """Who is asked whether a client may relay; None = everybody may."""
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
    """The configuration out of flags (by setting name), environment and the file's text.

    Args:
        flags: by setting name.
        environment: the process's.
        file_text: the file's content.
        file_path: its name, for errors.
        host_name: this machine's, for a relay that is not told where it is reached.

    Raises:
        UserError: with Exit.USAGE, naming the setting and where its value came from.
    """
    sources = Sources(flags, environment, parse_file(file_text, RELAY_SETTINGS, file_path))
    given = sources.find(HTTP_ADDRESS)
    http_address = parse_address(given, given.text) if given else None
    access_url = _access_url(sources.find(ACCESS_URL), host_name, http_address)
    listening = parse_listening(sources, access_url, http_address, DEFAULT_PORT)
    stun = sources.find(STUN_ADDRESS)
    return RelayConfig(
        access_url=access_url,
        http_address=listening.http_address,
        tls_address=listening.tls_address,
        tls=listening.tls,
        stun_addresses=parse_stun_addresses(stun) if stun else DEFAULT_STUN_ADDRESSES,
        state_dir=absolute_path(sources.get(STATE_DIR)),
        verify_url=_admission(sources),
        region_id=_region_id(sources.get(REGION_ID)),
        region_code=sources.get(REGION_CODE).text,
    )


def _access_url(value: Value | None, host_name: str, http_address: AddrPort | None) -> ServerUrl:
    if value is not None:
        return parse_server_url(value.text)
    return ServerUrl("http", host_name, http_address[1] if http_address else DEFAULT_PORT)


def _admission(sources: Sources) -> str | None:
    """Whom to ask, None for nobody. Raises UserError unless exactly one of both is chosen."""
    url, anybody = sources.find(VERIFY_URL), as_bool(sources.get(ALLOW_ANY_CLIENT))
    if (url is not None) == anybody:
        wrong = "both are given" if anybody else "neither is given"
        raise UserError(
            f"a relay must know whom it serves: {VERIFY_URL.flag} or {ALLOW_ANY_CLIENT.flag}, and {wrong}",
            exit_code=Exit.USAGE,
            hint=f"For your team alone: {VERIFY_URL.flag} https://SERVER/derp/verify. Anybody may use a relay that asks nobody.",
            code="no_admission",
        )
    return None if url is None else http_url(url, "A coderd server answers at /derp/verify.")


def _region_id(value: Value) -> int:
    text = value.text
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) <= MAX_REGION_ID):
        raise bad_value(value, f"it must be a number from 1 to {MAX_REGION_ID}")
    return int(text)
