"""TLS contexts for relays, and the checks of a relay's certificate beyond those of a context."""

import hashlib
import hmac
import ssl
from datetime import UTC, datetime

from cryptography import x509

from coderd.config.url import ServerUrl, with_trust
from coderd.derp.dial_plan import PIN_PREFIX, CertificateRule, certificate_rule
from coderd.derp.io.meta_certificate import is_meta, leaf, presented
from coderd.http.pinned import server_context
from coderd.http.tls_stream import TlsStream
from coderd.model.derpmap import DerpNode


def client_context(node: DerpNode) -> ssl.SSLContext:
    """Returns the TLS context for one node: TLS 1.2 or newer, ALPN ``http/1.1`` only.

    ``check_certificate`` must follow the handshake. Raises OSError if the server's file of authorities cannot
    be used.
    """
    rule = certificate_rule(node)
    context = _server_context(node) if rule is CertificateRule.SERVER else ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if rule in (CertificateRule.PIN, CertificateRule.OTHER_NAME, CertificateRule.ANYTHING):
        context.check_hostname = False
    if rule in (CertificateRule.PIN, CertificateRule.ANYTHING) or node.insecure_for_tests:
        context.verify_mode = ssl.CERT_NONE
    return context


def _server_context(node: DerpNode) -> ssl.SSLContext:
    """Returns a context with the trust of the server's URL, as its own relay presents its certificate."""
    return server_context(with_trust(ServerUrl("https", node.host_name, node.derp_port), node.server_trust))


def check_certificate(stream: TlsStream, node: DerpNode, server_name: str | None) -> None:
    """Checks a relay's pin or other name, which the context does not. Raises ssl.CertificateError."""
    rule = certificate_rule(node)
    if rule is CertificateRule.PIN:
        _check_pin(presented(stream), node.cert_name, server_name)
    elif rule is CertificateRule.OTHER_NAME:
        certificate = x509.load_der_x509_certificate(leaf(stream))
        if not _covers(certificate, node.cert_name):
            raise ssl.CertificateError(f"the relay's certificate is not for {node.cert_name}")


def _check_pin(presented: list[bytes], pin: str, server_name: str | None) -> None:
    """Checks that a relay presents one certificate: the pinned one, valid today, for the server name.

    Raises: ssl.CertificateError.
    """
    certificates = [der for der in presented if not is_meta(der)]
    if len(certificates) != 1:
        raise ssl.CertificateError(
            f"a pinned relay presents exactly one certificate, this one {len(certificates)}"
        )
    digest = PIN_PREFIX + hashlib.sha256(certificates[0]).hexdigest()
    if not hmac.compare_digest(digest.encode(), pin.encode()):
        raise ssl.CertificateError("the relay's certificate is not the pinned one")
    pinned = x509.load_der_x509_certificate(certificates[0])
    if not pinned.not_valid_before_utc <= datetime.now(UTC) <= pinned.not_valid_after_utc:
        raise ssl.CertificateError("the relay's pinned certificate is not valid today")
    if server_name is not None and not _covers(pinned, server_name):
        raise ssl.CertificateError(f"the relay's pinned certificate is not for {server_name}")


def _covers(certificate: x509.Certificate, name: str) -> bool:
    """Returns whether a certificate's alternative names include a DNS name or IP address (RFC 6125)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    if any(str(address) == name for address in names.get_values_for_type(x509.IPAddress)):
        return True
    wanted = name.lower().rstrip(".")
    return any(_matches(pattern.lower(), wanted) for pattern in names.get_values_for_type(x509.DNSName))


def _matches(pattern: str, name: str) -> bool:
    """Returns whether a name matches a pattern; ``*`` is exactly one label (RFC 6125 §6.4.3)."""
    if not pattern.startswith("*."):
        return pattern == name
    first, dot, rest = name.partition(".")
    return bool(first and dot) and rest == pattern[2:]
