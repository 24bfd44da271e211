"""TLS towards a relay: which names and certificates are good enough."""

import hashlib
import hmac
import ssl
import warnings
from datetime import UTC, datetime
from typing import Final

import trio
from cryptography import x509

from coderd.derp.dial_plan import PIN_PREFIX, CertificateRule, certificate_rule
from coderd.model.derpmap import DerpNode

META_CERTIFICATE_PREFIX: Final = "derpkey"


def client_context(node: DerpNode) -> ssl.SSLContext:
    """A context for one node: TLS 1.2 or newer, no ALPN but ``http/1.1``.

    Where the certificate's name is not the host's, ``check_certificate`` has to follow the handshake.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    rule = certificate_rule(node)
    if rule is not CertificateRule.HOST_NAME:
        context.check_hostname = False
    if rule in (CertificateRule.PIN, CertificateRule.ANYTHING) or node.insecure_for_tests:
        context.verify_mode = ssl.CERT_NONE
    return context


def check_certificate(
    stream: trio.SSLStream[trio.abc.Stream], node: DerpNode, server_name: str | None
) -> None:
    """What the context could not check. Raises ssl.CertificateError."""
    rule = certificate_rule(node)
    if rule is CertificateRule.PIN:
        _check_pin(_presented(stream), node.cert_name, server_name)
    elif rule is CertificateRule.OTHER_NAME:
        leaf = x509.load_der_x509_certificate(_leaf(stream))
        if not _covers(leaf, node.cert_name):
            raise ssl.CertificateError(f"the relay's certificate is not for {node.cert_name}")


def _check_pin(presented: list[bytes], pin: str, server_name: str | None) -> None:
    """The one certificate has the hash that the map says, is valid today, and fits the name that was asked for."""
    certificates = [der for der in presented if not _is_meta(der)]
    if len(certificates) != 1:
        raise ssl.CertificateError(
            f"a pinned relay presents exactly one certificate, this one {len(certificates)}"
        )
    digest = PIN_PREFIX + hashlib.sha256(certificates[0]).hexdigest()
    if not hmac.compare_digest(digest.encode(), pin.encode()):
        raise ssl.CertificateError("the relay's certificate is not the pinned one")
    leaf = x509.load_der_x509_certificate(certificates[0])
    if not leaf.not_valid_before_utc <= datetime.now(UTC) <= leaf.not_valid_after_utc:
        raise ssl.CertificateError("the relay's pinned certificate is not valid today")
    if server_name is not None and not _covers(leaf, server_name):
        raise ssl.CertificateError(f"the relay's pinned certificate is not for {server_name}")


def _leaf(stream: trio.SSLStream[trio.abc.Stream]) -> bytes:
    der: bytes | None = stream.getpeercert(binary_form=True)
    if not der:
        raise ssl.CertificateError("the relay presented no certificate")
    return der


def _presented(stream: trio.SSLStream[trio.abc.Stream]) -> list[bytes]:
    """All certificates that were presented, where this Python can tell; else the first."""
    sslobj = getattr(stream._ssl_object, "_sslobj", None)
    get_chain = getattr(sslobj, "get_unverified_chain", None)
    if get_chain is None:
        return [_leaf(stream)]
    # Private API of CPython 3.10 to 3.12, where the public one does not exist yet.
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in get_chain()]


def _is_meta(der: bytes) -> bool:
    """Whether this is the certificate in which a relay tells its DERP key: no part of the chain.

    Its common name is longer than X.520 allows, which ``cryptography`` complains about; the bytes are looked at.
    """
    return META_CERTIFICATE_PREFIX.encode() in der and _common_name_is_meta(der)


def _common_name_is_meta(der: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subject = x509.load_der_x509_certificate(der).subject
        names = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return any(str(name.value).startswith(META_CERTIFICATE_PREFIX) for name in names)


def _covers(leaf: x509.Certificate, name: str) -> bool:
    """Whether a certificate's alternative names include a DNS name or address, by the rules of RFC 6125."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    if any(str(address) == name for address in names.get_values_for_type(x509.IPAddress)):
        return True
    wanted = name.lower().rstrip(".")
    return any(_matches(pattern.lower(), wanted) for pattern in names.get_values_for_type(x509.DNSName))


def _matches(pattern: str, name: str) -> bool:
    """A wildcard stands for exactly the first label."""
    if not pattern.startswith("*."):
        return pattern == name
    first, dot, rest = name.partition(".")
    return bool(first and dot) and rest == pattern[2:]
