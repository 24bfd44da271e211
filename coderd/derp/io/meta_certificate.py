"""The certificate that announces a relay's DERP key: presented last, and not part of the chain of trust.

Its common name is ``derpkey`` and the key in hexadecimal, its serial number the protocol's version. A client
that reads it in a TLS 1.3 handshake, which encrypts certificates (RFC 8446 §4.4), may start without waiting
for an HTTP response. The announcement is no proof: the relay's own certificate, presented first,
authenticates the relay.
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
"""Validity of the certificate before and after the day on which it is made; clients do not check it."""
_MAX_VERSION: Final = 255


def meta_certificate(server_key: ServerPublic, now: datetime | None = None) -> bytes:
    """Makes the certificate that announces a relay's key, in PEM, to be appended to the relay's chain."""
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
    """Returns whether a certificate (DER) is meant to announce a relay's key, by its common name's prefix."""
    return PREFIX.encode() in der and any(name.startswith(PREFIX) for name in _common_names(der)[1])


def announced_key(stream: trio.abc.Stream) -> ServerPublic | None:
    """Returns the key that a relay's TLS announces; None without TLS 1.3, or without a valid announcement.

    Raises: ssl.CertificateError.
    """
    if not isinstance(stream, TlsStream) or stream.version() != "TLSv1.3":
        return None
    for der in presented(stream):
        if is_meta(der) and (key := key_of(der)) is not None:
            return key
    return None


def presented(stream: TlsStream) -> list[bytes]:
    """Returns all certificates that the relay presented (DER); only the first where Python cannot tell.

    Raises: ssl.CertificateError.
    """
    sslobj = getattr(stream.ssl_object, "_sslobj", None)
    get_chain = getattr(sslobj, "get_unverified_chain", None)
    if get_chain is None:
        return [leaf(stream)]
    # Private API of CPython 3.10 to 3.12, where the public one does not exist yet.
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in get_chain()]


def leaf(stream: TlsStream) -> bytes:
    """Returns the relay's own certificate (DER), the first presented. Raises ssl.CertificateError."""
    der = stream.ssl_object.getpeercert(binary_form=True)
    if not der:
        raise ssl.CertificateError("the relay presented no certificate")
    return der


def key_of(der: bytes) -> ServerPublic | None:
    """Returns the relay's key that a certificate (DER) announces; None where there is no valid one."""
    serial, names = _common_names(der)
    digits = next((name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)), "")
    if not 0 < serial <= _MAX_VERSION or len(digits) != 2 * KEY_SIZE:
        return None
    try:
        return ServerPublic(bytes.fromhex(digits))
    except ValueError:
        return None


def _common_names(der: bytes) -> tuple[int, list[str]]:
    """Returns a certificate's serial number and common names; 0 and none where it cannot be parsed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            certificate = x509.load_der_x509_certificate(der)
            found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            return certificate.serial_number, [str(name.value) for name in found]
        except ValueError:
            return 0, []
