"""The server's end of TLS: certificates by the client's server name (SNI), reloaded at runtime.

Every reload makes a new context, for the connections that come after it; open ones keep theirs. ALPN offers
``http/1.1`` only, as an HTTP/2 connection cannot carry a relay.
"""

import os
import ssl
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from coderd.config.tls import CertificateFiles, TlsOptions
from coderd.http.tls_stream import TlsStream
from coderd.model.errors import UserError

MAX_FILE_SIZE = 256 * 1024
_VERSIONS = {(1, 2): ssl.TLSVersion.TLSv1_2, (1, 3): ssl.TLSVersion.TLSv1_3}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A certificate, and the context that presents it."""

    context: ssl.SSLContext
    leaf: x509.Certificate


class ServerTls:
    """The certificates of a server, and the context that presents them.

    Args:
        options: the certificates' files, and the lowest TLS version.
        appended: a further certificate, in PEM, to follow each chain: see
            ``coderd.derp.io.meta_certificate``.

    Raises:
        UserError: a file cannot be used; the message says which and why.
    """

    def __init__(self, options: TlsOptions, appended: bytes = b"") -> None:
        self._options = options
        self._appended = appended
        self._leaves: list[x509.Certificate] = []
        self._context = self._load()

    def validity(self) -> tuple[float, float]:
        """Returns when the last certificate becomes valid and when the first one expires, in Unix seconds."""
        begins = max(leaf.not_valid_before_utc for leaf in self._leaves)
        return begins.timestamp(), min(leaf.not_valid_after_utc for leaf in self._leaves).timestamp()

    def context(self) -> ssl.SSLContext:
        """Returns the TLS context for the next connection."""
        return self._context

    def reload(self) -> None:
        """Reads all files again.

        Raises UserError if one cannot be used; the certificates then stay as they are.
        """
        self._context = self._load()

    def _load(self) -> ssl.SSLContext:
        loaded = [self._load_one(files) for files in self._options.certificates]
        default = loaded[0].context
        if len(loaded) > 1:
            default.sni_callback = _chooser(loaded)
        self._leaves = [one.leaf for one in loaded]
        return default

    def _load_one(self, files: CertificateFiles) -> _Loaded:
        chain = _read(files.certificate, "certificate")
        leaf = _leaf(chain, files.certificate)
        _warn(leaf, files)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._options.min_version]
        context.set_alpn_protocols(["http/1.1"])
        try:
            _use(context, chain.rstrip() + b"\n" + self._appended, files.key)
        except ssl.SSLError as error:
            why = (
                "it is encrypted, or no key"
                if error.reason is None
                else error.reason.lower().replace("_", " ")
            )
            raise _refusal(files.key, "key", f"it does not fit {files.certificate} ({why})") from None
        except OSError as error:
            raise _refusal(files.key, "key", error.strerror or str(error)) from None
        return _Loaded(context, leaf)


class TlsListener(trio.abc.Listener[TlsStream]):
    """A listener for TLS connections, each with the context that is current when it is accepted.

    Args:
        listener: accepts the TCP connections.
        context: returns the current TLS context, such as ``ServerTls.context``.
    """

    def __init__(self, listener: trio.SocketListener, context: Callable[[], ssl.SSLContext]) -> None:
        self._listener = listener
        self._context = context

    async def accept(self) -> TlsStream:
        """Waits for the next connection and returns it; its handshake has yet to be done. Raises OSError."""
        stream = await self._listener.accept()
        return TlsStream(stream, self._context(), server_side=True)

    async def aclose(self) -> None:
        """Closes the TCP listener; accepted connections go on."""
        await self._listener.aclose()


def fingerprint(certificate: Path) -> str:
    """Returns the SHA-256 of a file's first certificate, in hexadecimal, which clients pin.

    Raises UserError.
    """
    return _leaf(_read(certificate, "certificate"), certificate).fingerprint(SHA256()).hex()


def is_certificate_for(certificate: Path, host: str) -> bool:
    """Returns whether a file's first certificate is for a host name or IP address. Raises UserError."""
    leaf = _leaf(_read(certificate, "certificate"), certificate)
    return host in _addresses(leaf) or _is_for(leaf, host.lower())


def _chooser(
    loaded: Sequence[_Loaded],
) -> Callable[[ssl.SSLSocket | ssl.SSLObject, str | None, ssl.SSLContext], None]:
    """Returns an SNI callback that chooses a certificate by the client's server name, else the first one."""

    def choose(connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is not None:
            found = next((one.context for one in loaded if _is_for(one.leaf, name.lower())), None)
            if found is not None:
                connection.context = found

    return choose


def _is_for(leaf: x509.Certificate, name: str) -> bool:
    names = _names(leaf)
    patterns = [] if names is None else [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return name in patterns or f"*.{name.partition('.')[2]}" in patterns


def _addresses(leaf: x509.Certificate) -> list[str]:
    names = _names(leaf)
    return [] if names is None else [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def _names(leaf: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _use(context: ssl.SSLContext, chain: bytes, key: Path) -> None:
    """Loads a chain of certificates into a context through a memfd, as Python reads files only.

    Raises: OSError, ssl.SSLError among them.
    """
    file = os.memfd_create("chain", os.MFD_CLOEXEC)
    try:
        os.write(file, chain)
        context.load_cert_chain(f"/proc/self/fd/{file}", key, password=_no_password)
    finally:
        os.close(file)


def _no_password() -> str:
    """Returns an empty password, so that OpenSSL does not ask for one on the terminal."""
    return ""


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise _refusal(path, what, error.strerror or str(error)) from None
    if len(data) > MAX_FILE_SIZE:
        raise _refusal(path, what, "it is too long")
    return data


def _leaf(chain: bytes, path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError):
        raise _refusal(path, "certificate", "it contains no certificate in PEM") from None


def _warn(leaf: x509.Certificate, files: CertificateFiles) -> None:
    now = datetime.now(UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        _log.warning(
            "the certificate is not valid today; clients will refuse it",
            certificate=str(files.certificate),
            until=leaf.not_valid_after_utc.isoformat(),
        )
    try:
        mode = files.key.stat().st_mode
    except OSError:
        return  # loading the key raises the error
    if mode & stat.S_IROTH:
        _log.warning("every user of this machine can read the server's private key", key=str(files.key))


def _refusal(path: Path, what: str, why: str) -> UserError:
    return UserError(
        f"the TLS {what} {path} cannot be used: {why}",
        hint="Certificate and key are PEM files, the chain following the certificate, that the server's user may read.",
        code="bad_certificate",
    )
