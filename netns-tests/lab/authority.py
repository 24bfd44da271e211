"""A certificate authority that a laboratory's hosts trust, and nobody else does."""

from typing import NamedTuple

import trustme

from lab.host import Host

ROOTS = "/run/lab-authority.pem"


class CertificateFiles(NamedTuple):
    """Where a host has a certificate and its key."""

    certificate: str
    key: str


class Authority:
    """Makes certificates, and itself known to those who shall trust them."""

    def __init__(self) -> None:
        self._authority = trustme.CA(organization_name="The laboratory")

    def make_known(self, host: Host) -> None:
        """Makes it the one authority that a host's programs trust, as an administrator does."""
        self._authority.cert_pem.write_to_path(str(host.path(ROOTS)))
        host.environment["SSL_CERT_FILE"] = ROOTS

    def certify(self, host: Host, *names: str) -> CertificateFiles:
        """Give a host a certificate for names or addresses; the files are in its /run."""
        leaf = self._authority.issue_cert(*names)
        files = CertificateFiles("/run/lab-certificate.pem", "/run/lab-key.pem")
        host.path(files.certificate).write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key = host.path(files.key)
        key.touch(mode=0o600)
        key.write_bytes(leaf.private_key_pem.bytes())
        return files
