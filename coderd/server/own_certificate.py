"""The certificate that a server or relay makes itself; clients trust it by its SHA-256 (the pin)."""

from coderd.config.tls import CertificateFiles
from coderd.http.self_signed import make_certificate
from coderd.http.tls import is_certificate_for
from coderd.process.private_directory import PrivateDirectory

TLS_FILE = "tls.pem"


def own_certificate(directory: PrivateDirectory, host: str) -> CertificateFiles:
    """Returns the file with certificate and key, made now if there is none for this host.

    Raises UserError.
    """
    path = directory.path(TLS_FILE)
    if not path.exists() or not is_certificate_for(path, host):
        directory.write(TLS_FILE, make_certificate(host))
    return CertificateFiles(path, path)
