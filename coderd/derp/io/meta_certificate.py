"""The certificate in which a relay tells its DERP key: the last of those that it presents, and no part of the chain.

Its common name is ``derpkey`` and the key in hexadecimal, its serial number the protocol's version. A client that reads it
in a TLS 1.3 handshake (older ones show certificates to anybody on the way) may start without waiting for an HTTP answer.
It proves nothing by itself: who is at the other end is for the real certificate to say, which comes first.
"""

import ssl
import warnings
from datetime import UTC, datetime, timedelta
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from coderd.derp.frame import PROTOCOL_VERSION
from coderd.http.tls_stream import TlsStream
from coderd.model.keys import KEY_SIZE, ServerPublic

PREFIX: Final = "derpkey"
LIFETIME: Final = timedelta(days=30)
"""Around the day on which the certificate is made; nobody checks it."""
_MAX_VERSION: Final = 255


def meta_certificate(server_key: ServerPublic, now: datetime | None = None) -> bytes:
    """The certificate for a relay's key, in PEM: to be appended to the chain that its TLS presents."""
    now = now or datetime.now(UTC)
    private = Ed25519PrivateKey.generate()
    with warnings.catch_warnings():
        # 71 characters, where X.520 allows 64.
        warnings.simplefilter("ignore")
        name = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, PREFIX + server_key.hex(), _validate=False)]
        )
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=private.public_key())
        .serial_number(PROTOCOL_VERSION)
        .not_valid_before(now - LIFETIME)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, None)
    )
    return certificate.public_bytes(Encoding.PEM)


def is_meta(der: bytes) -> bool:
    """Whether this is such a certificate, usable or not."""
    return PREFIX.encode() in der and any(name.startswith(PREFIX) for name in _common_names(der)[1])


def announced_key(stream: trio.abc.Stream) -> ServerPublic | None:
    """The relay's key as its TLS announces it; None without TLS 1.3, or where nothing usable was announced."""
    if not isinstance(stream, TlsStream) or stream.version() != "TLSv1.3":
        return None
    for der in presented(stream):
        if is_meta(der) and (key := key_of(der)) is not None:
            return key
    return None


def presented(stream: TlsStream) -> list[bytes]:
    """All certificates that were presented, where this Python can tell; else the first. Raises ssl.CertificateError."""
    sslobj = getattr(stream.ssl_object, "_sslobj", None)
    get_chain = getattr(sslobj, "get_unverified_chain", None)
    if get_chain is None:
        return [leaf(stream)]
    # Private API of CPython 3.10 to 3.12, where the public one does not exist yet.
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in get_chain()]


def leaf(stream: TlsStream) -> bytes:
    """The relay's own certificate. Raises ssl.CertificateError."""
    der = stream.ssl_object.getpeercert(binary_form=True)
    if not der:
        raise ssl.CertificateError("the relay presented no certificate")
    return der


def key_of(der: bytes) -> ServerPublic | None:
    """The key that such a certificate announces; None where it is unusable."""
    serial, names = _common_names(der)
    digits = next((name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)), "")
    if not 0 < serial <= _MAX_VERSION or len(digits) != 2 * KEY_SIZE:
        return None
    try:
        return ServerPublic(bytes.fromhex(digits))
    except ValueError:
        return None


def _common_names(der: bytes) -> tuple[int, list[str]]:
    """Serial number and common names; nothing of what is no certificate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            certificate = x509.load_der_x509_certificate(der)
            found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            return certificate.serial_number, [str(name.value) for name in found]
        except ValueError:
            return 0, []
