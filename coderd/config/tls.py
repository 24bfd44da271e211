"""Whether this server speaks TLS, where, and with which certificates; named as Coder names them.

TLS is on where certificate files are given, where ``--tls-enable`` asks for it, and where the access URL is
https and nothing says that a proxy in front speaks TLS: neither ``--http-address``, which such a proxy would
connect to, nor ``--tls-enable=false``. Without files the server makes a certificate of its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coderd.config.kinds import ADDRESS, SWITCH, as_bool, as_paths
from coderd.config.sources import Kind, Setting, Sources, Value, bad_value
from coderd.config.url import ServerUrl
from coderd.model.addresses import AddrPort
from coderd.model.errors import Exit, UserError

MAX_CERTIFICATES = 16
DEFAULT_TLS_PORT = 3443

_VERSIONS = {"tls12": (1, 2), "tls13": (1, 3)}


def _version(value: Value) -> tuple[int, int]:
    version = _VERSIONS.get(value.text.strip().lower())
    if version is None:
        raise bad_value(value, "older versions are not safe any more", f"Use {' or '.join(_VERSIONS)}.")
    return version


TLS_ENABLE = Setting(
    "tls_enable",
    "CODER_TLS_ENABLE",
    SWITCH,
    help="Speak TLS.",
    shown_default="where files are given, or the URL is https and no --http-address is given",
    has_negation=True,
)
TLS_ADDRESS = Setting(
    "tls_address",
    "CODER_TLS_ADDRESS",
    ADDRESS,
    help="Where to listen for TLS, if for plain HTTP as well at --http-address.",
)
TLS_CERT_FILE = Setting(
    "tls_cert_file",
    "CODER_TLS_CERT_FILE",
    Kind("PEM", as_paths, is_list=True),
    help="A file with a certificate and its chain. May repeat. Without one the server makes its own.",
)
TLS_KEY_FILE = Setting(
    "tls_key_file",
    "CODER_TLS_KEY_FILE",
    Kind("PEM", as_paths, is_list=True),
    help="A file with a certificate's private key, in the order of the certificates. May repeat.",
)
TLS_MIN_VERSION = Setting(
    "tls_min_version",
    "CODER_TLS_MIN_VERSION",
    Kind("tls12|tls13", _version),
    "tls12",
    "The oldest version of TLS that is accepted.",
)
TLS_SETTINGS = (TLS_ENABLE, TLS_ADDRESS, TLS_CERT_FILE, TLS_KEY_FILE, TLS_MIN_VERSION)


class CertificateFiles(NamedTuple):
    """A certificate, its chain after it, and its private key, all in PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """Certificates and the oldest version of TLS."""

    certificates: tuple[CertificateFiles, ...] = ()
    """The first serves clients that name no host, or a host of no other; empty = the server makes its own."""
    min_version: tuple[int, int] = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Addresses of plain HTTP and of TLS; at least one of them is set."""

    http_address: AddrPort | None = None
    tls_address: AddrPort | None = None
    tls: TlsOptions | None = None


def parse_listening(
    sources: Sources, access_url: ServerUrl, http_address: AddrPort | None, default_port: int
) -> Listening:
    """Returns where to listen, out of all sources.

    Args:
        sources: where settings are looked for.
        access_url: where clients reach the server.
        http_address: ``--http-address``, if it was given. With TLS and no ``--tls-address``, TLS listens
            there.
        default_port: for plain HTTP behind an https access URL.

    Raises:
        UserError: with Exit.USAGE, naming the setting and where its value came from.
    """
    certificates = _certificates(sources)
    tls_address = sources.given(TLS_ADDRESS)
    has_details = bool(certificates) or tls_address is not None
    if not _is_wanted(sources.find(TLS_ENABLE), access_url, has_details, http_address):
        port = default_port if access_url.is_tls else access_url.port
        return Listening(http_address=http_address or ("::", port))
    port = access_url.port if access_url.is_tls else DEFAULT_TLS_PORT
    return Listening(
        http_address=http_address if tls_address is not None else None,
        tls_address=tls_address or http_address or ("::", port),
        tls=TlsOptions(certificates=certificates, min_version=sources.get(TLS_MIN_VERSION)),
    )


def _is_wanted(
    enable: Value | None, access_url: ServerUrl, has_details: bool, http_address: AddrPort | None
) -> bool:
    if enable is not None and not as_bool(enable) and has_details:
        raise UserError(
            f"TLS is switched off by {enable.origin}, but an address or a certificate is given for it",
            exit_code=Exit.USAGE,
            hint="Leave out one or the other.",
            code="bad_config",
        )
    if enable is not None:
        return as_bool(enable)
    return has_details or (access_url.is_tls and http_address is None)


def _certificates(sources: Sources) -> tuple[CertificateFiles, ...]:
    certificates, keys = sources.find(TLS_CERT_FILE), sources.find(TLS_KEY_FILE)
    if certificates is None and keys is None:
        return ()
    if certificates is None or keys is None:
        given, missing = (TLS_CERT_FILE, TLS_KEY_FILE) if keys is None else (TLS_KEY_FILE, TLS_CERT_FILE)
        raise UserError(
            f"{given.flag} is given, but no {missing.flag}",
            exit_code=Exit.USAGE,
            hint="A certificate and its key are two PEM files; each has an option of its own.",
            code="bad_config",
        )
    pairs = as_paths(certificates), as_paths(keys)
    if len(pairs[0]) != len(pairs[1]):
        raise bad_value(keys, f"there are {len(pairs[0])} certificates and {len(pairs[1])} keys")
    if len(pairs[0]) > MAX_CERTIFICATES:
        raise bad_value(certificates, f"there are more than {MAX_CERTIFICATES}")
    return tuple(CertificateFiles(*pair) for pair in zip(*pairs, strict=True))
