"""TLS contexts of clients by a server's URL: the system's authorities, a file of them, or a pin.

A pin is checked as part of the handshake, in any library that does it: another certificate ends the
connection before application data, a token for example, is sent. Names, dates and authorities of a pinned
certificate are not checked, as its SHA-256 identifies it.
"""

import errno
import hashlib
import hmac
import os
import ssl
from pathlib import Path

from coderd.config.url import ServerUrl


class WrongCertificate(ssl.SSLCertVerificationError):
    """The error of a server that presents another certificate than the pinned one.

    Attributes:
        presented: SHA-256 of the certificate that it presents, in hexadecimal.
        pin: SHA-256 of the pinned certificate, in hexadecimal.
    """

    def __init__(self, presented: str, pin: str) -> None:
        super().__init__(presented, pin)
        self.presented = presented
        self.pin = pin

    def __str__(self) -> str:
        return f"it shows the certificate sha256:{self.presented}, and not the pinned sha256:{self.pin}"


class BadAuthorities(OSError):
    """The error of a file of certificate authorities that cannot be used."""


def server_context(url: ServerUrl) -> ssl.SSLContext:
    """Returns a client's TLS context for a server's URL, by its file of authorities or its pin.

    A URL without either is held to the system's authorities, or those of SSL_CERT_FILE.

    Raises:
        BadAuthorities: the file of authorities cannot be used.
    """
    if url.ca_file:
        return _private_context(url.ca_file)
    if not url.pin:
        return ssl.create_default_context()
    context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.pin = url.pin
    return context


def _private_context(path: str) -> ssl.SSLContext:
    """Returns a context that trusts the authorities of a regular file; reading a pipe might block."""
    try:
        if not Path(path).is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError among them
        why = "it holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise BadAuthorities(f"the file of authorities {path} cannot be used: {why}") from None


def why_untrusted(error: BaseException) -> str:
    """Returns, as a clause, why a server's certificate was rejected; empty if the error has another cause.

    Args:
        error: any library's; its causes and contexts are searched.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, WrongCertificate):
        return str(cause)
    return "" if cause is None else f"its certificate is not trusted ({cause.verify_message})"


class _PinnedSocket(ssl.SSLSocket):
    """A blocking client's TLS socket that checks the pin in its handshake."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check(self)


class _PinnedObject(ssl.SSLObject):
    """A TLS connection over memory buffers that checks the pin: for trio, and inside a proxy's TLS."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _check(self)


class _PinnedContext(ssl.SSLContext):
    """A context without authorities: its connections check the pin instead."""

    sslsocket_class = _PinnedSocket
    sslobject_class = _PinnedObject
    pin = ""

    def __init__(self, protocol: int) -> None:
        self.check_hostname = False
        self.verify_mode = ssl.CERT_NONE
        self.minimum_version = ssl.TLSVersion.TLSv1_2


def _check(connection: ssl.SSLSocket | ssl.SSLObject) -> None:
    """Compares the presented certificate's SHA-256 with the pin; without a pin none matches.

    Raises WrongCertificate.
    """
    pin = connection.context.pin if isinstance(connection.context, _PinnedContext) else ""
    presented = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
    if not hmac.compare_digest(presented, pin):
        raise WrongCertificate(presented, pin)
