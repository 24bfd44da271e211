"""Whether this server speaks TLS, where, and with which certificates; named as Coder names them.

TLS is on where certificate files are given, where ``--tls-enable`` asks for it, and where the access URL is https and nothing
says that somebody else speaks TLS before us: neither ``--http-address``, which such a proxy would connect to, nor
``--tls-enable=false``. Without files the server makes a certificate of its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coderd.config.sources import Setting, Sources, Value, as_bool, bad_value
from coderd.config.url import ServerUrl
from coderd.model.addresses import AddrPort, parse_addr_port
from coderd.model.errors import Exit, UserError

MAX_CERTIFICATES = 16
DEFAULT_TLS_PORT = 3443

TLS_ENABLE = Setting("tls_enable", "CODER_TLS_ENABLE")
TLS_ADDRESS = Setting("tls_address", "CODER_TLS_ADDRESS")
TLS_CERT_FILE = Setting("tls_cert_file", "CODER_TLS_CERT_FILE")
TLS_KEY_FILE = Setting("tls_key_file", "CODER_TLS_KEY_FILE")
TLS_MIN_VERSION = Setting("tls_min_version", "CODER_TLS_MIN_VERSION", "tls12")
TLS_SETTINGS = (TLS_ENABLE, TLS_ADDRESS, TLS_CERT_FILE, TLS_KEY_FILE, TLS_MIN_VERSION)

_VERSIONS = {"tls12": (1, 2), "tls13": (1, 3)}


class CertificateFiles(NamedTuple):
    """A certificate, its chain after it, and its private key, all in PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """How TLS is spoken."""

    certificates: tuple[CertificateFiles, ...] = ()
    """The first is shown to whoever names no host that another is for; none = the server makes its own."""
    min_version: tuple[int, int] = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where HTTP is served, in plain and by TLS. At least one of them is."""

    http_address: AddrPort | None = None
    tls_address: AddrPort | None = None
    tls: TlsOptions | None = None


def parse_listening(
    sources: Sources, access_url: ServerUrl, http_address: AddrPort | None, default_port: int
) -> Listening:
    """Where to listen, out of all sources.

    Args:
        sources: where settings are looked for.
        access_url: how everybody else reaches the server.
        http_address: ``--http-address``, if it was given. With TLS and no ``--tls-address`` it is where TLS is spoken.
        default_port: for plain HTTP behind an https access URL.

    Raises:
        UserError: with Exit.USAGE, naming the setting and where its value came from.
    """
    certificates = _certificates(sources)
    enable, address = sources.find(TLS_ENABLE), sources.find(TLS_ADDRESS)
    if not _is_wanted(enable, access_url, bool(certificates or address), http_address):
        port = default_port if access_url.is_tls else access_url.port
        return Listening(http_address=http_address or ("::", port))
    tls_address = parse_address(address, address.text) if address else None
    port = access_url.port if access_url.is_tls else DEFAULT_TLS_PORT
    return Listening(
        http_address=http_address if tls_address is not None else None,
        tls_address=tls_address or http_address or ("::", port),
        tls=TlsOptions(certificates=certificates, min_version=_min_version(sources)),
    )


def parse_address(value: Value, text: str) -> AddrPort:
    """``ip:port``, or ``:port`` for every address. Raises UserError."""
    try:
        return parse_addr_port(f"[::]{text}" if text.startswith(":") else text)
    except ValueError:
        raise bad_value(
            value, "it is no ip:port pair", "Write it as in 192.0.2.10:3000, [::]:3000 or :3000."
        ) from None


def _is_wanted(
    enable: Value | None, access_url: ServerUrl, is_told_how: bool, http_address: AddrPort | None
) -> bool:
    if enable is not None and not as_bool(enable) and is_told_how:
        raise UserError(
            f"TLS is switched off by {enable.origin}, and yet told where or with which certificate",
            exit_code=Exit.USAGE,
            hint="Leave out one or the other.",
            code="bad_config",
        )
    if enable is not None:
        return as_bool(enable)
    return is_told_how or (access_url.is_tls and http_address is None)


def _certificates(sources: Sources) -> tuple[CertificateFiles, ...]:
    certificates, keys = sources.find(TLS_CERT_FILE), sources.find(TLS_KEY_FILE)
    if certificates is None and keys is None:
        return ()
    if certificates is None or keys is None:
        given, missing = (TLS_CERT_FILE, TLS_KEY_FILE) if keys is None else (TLS_KEY_FILE, TLS_CERT_FILE)
        raise UserError(
            f"{given.flag} is given, but no {missing.flag}",
            exit_code=Exit.USAGE,
            hint="A certificate and its key are two files in PEM, named each by its own option.",
            code="bad_config",
        )
    pairs = _paths(certificates), _paths(keys)
    if len(pairs[0]) != len(pairs[1]):
        raise bad_value(keys, f"there are {len(pairs[0])} certificates and {len(pairs[1])} keys")
    if len(pairs[0]) > MAX_CERTIFICATES:
        raise bad_value(certificates, f"there are more than {MAX_CERTIFICATES}")
    return tuple(CertificateFiles(*pair) for pair in zip(*pairs, strict=True))


def _paths(value: Value) -> list[Path]:
    return [Path(part.strip()) for part in value.text.split(",") if part.strip()]


def _min_version(sources: Sources) -> tuple[int, int]:
    value = sources.get(TLS_MIN_VERSION)
    version = _VERSIONS.get(value.text.strip().lower())
    if version is None:
        raise bad_value(value, "older versions are not safe any more", f"Use {' or '.join(_VERSIONS)}.")
    return version
