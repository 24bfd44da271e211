"""The certificate that a server or a relay makes for itself and keeps: those who know its SHA-256 trust it."""

from coderd.config.tls import CertificateFiles
from coderd.http.self_signed import make_certificate
from coderd.http.tls import is_certificate_for
from coderd.process.private_directory import PrivateDirectory

TLS_FILE = "tls.pem"


def own_certificate(directory: PrivateDirectory, host: str) -> CertificateFiles:
    """Certificate and key in one file, made now if there is none, or only one for another host. Raises UserError."""
    path = directory.path(TLS_FILE)
    if not path.exists() or not is_certificate_for(path, host):
        directory.write(TLS_FILE, make_certificate(host))
    return CertificateFiles(path, path)
