"""TLS towards a server as its URL says: most of all, one that shows a certificate of its own making, exactly the pinned one.

The check of the pin is part of the handshake, in whichever library does it: a wrong certificate ends the connection before a byte of
ours, a token say, has left. Names, dates and authorities say nothing about a certificate that is known whole.
"""

import errno
import hashlib
import hmac
import os
import ssl
from pathlib import Path

from coderd.config.url import ServerUrl


class WrongCertificate(ssl.SSLCertVerificationError):
    """The server shows another certificate than the pinned one.

    Attributes:
        presented: the SHA-256 of what it shows, in hexadecimal.
        pin: that of the one that it should.
    """

    def __init__(self, presented: str, pin: str) -> None:
        super().__init__(presented, pin)
        self.presented = presented
        self.pin = pin

    def __str__(self) -> str:
        return f"it shows the certificate sha256:{self.presented}, and not the pinned sha256:{self.pin}"


class BadAuthorities(OSError):
    """A file that should name authorities does not, now."""


def server_context(url: ServerUrl) -> ssl.SSLContext:
    """The trust that a server's URL asks for: its pin, its file of authorities, else the system's or SSL_CERT_FILE's.

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
    """Asks the authorities of a file. A pipe, say, is not read: nobody may ever write to it."""
    try:
        if not Path(path).is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError among them
        why = "it holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise BadAuthorities(f"the file of authorities {path} cannot be used: {why}") from None


def why_untrusted(error: BaseException) -> str:
    """What is wrong with the certificate, as a clause, if that is what another library's error is about; else empty."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, WrongCertificate):
        return str(cause)
    return "" if cause is None else f"nobody vouches for its certificate ({cause.verify_message})"


class _PinnedSocket(ssl.SSLSocket):
    """For blocking clients."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check(self)


class _PinnedObject(ssl.SSLObject):
    """For trio, and for TLS through a proxy's."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _check(self)


class _PinnedContext(ssl.SSLContext):
    """Asks no authority. Its connections check the pin themselves."""

    sslsocket_class = _PinnedSocket
    sslobject_class = _PinnedObject
    pin = ""

    def __init__(self, protocol: int) -> None:
        self.check_hostname = False
        self.verify_mode = ssl.CERT_NONE
        self.minimum_version = ssl.TLSVersion.TLSv1_2


def _check(connection: ssl.SSLSocket | ssl.SSLObject) -> None:
    """Fails closed: a context without a pin fits no certificate. Raises WrongCertificate."""
    pin = connection.context.pin if isinstance(connection.context, _PinnedContext) else ""
    presented = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
    if not hmac.compare_digest(presented, pin):
        raise WrongCertificate(presented, pin)
