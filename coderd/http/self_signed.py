"""The certificate that a server makes for itself where none is configured.

No authority signs it: clients are given its SHA-256 beforehand and accept this certificate only
(``coderd.http.pinned``).
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

LIFETIME = timedelta(days=3650)
MAX_COMMON_NAME = 64
"""Most characters of a common name: X.520's ub-common-name (RFC 5280, appendix A)."""


def make_certificate(host: str, now: datetime | None = None) -> bytes:
    """Makes a P-256 key and a self-signed certificate for a host name or IP address. Returns both, in PEM.

    The certificate is valid from a day before ``now`` (the wall clock by default) for ``LIFETIME`` after it.
    """
    now = now or datetime.now(UTC)
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host[:MAX_COMMON_NAME])])
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode("ascii"))
