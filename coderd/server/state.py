"""The server's state directory: its keys, its database, and the first admin's token.

    keys.json     relay key and coordination key
    identity.db   users, nodes, tokens (by hash), node keys
    admin-token   the first admin's session token, until it is removed
    tls.pem       the certificate that the server made itself, and its key

With a damaged key file the server does not start: with new keys it would be another server to its nodes.
"""

import os
from pathlib import Path

import msgspec

from coderd.config.tls import CertificateFiles
from coderd.model.errors import UserError
from coderd.model.keys import NodePrivate, ServerPrivate
from coderd.process.private_directory import PrivateDirectory
from coderd.server.own_certificate import own_certificate

KEYS_FILE = "keys.json"
DATABASE_FILE = "identity.db"
ADMIN_TOKEN_FILE = "admin-token"


class _Keys(msgspec.Struct, frozen=True):
    relay_key: str
    coordination_key: str

    def __repr__(self) -> str:
        return "<_Keys redacted>"


class StateDirectory(PrivateDirectory):
    """State directory of a server, locked while it is open. Raises UserError if it cannot be used.

    Attributes:
        relay_key: the embedded relay's key.
        coordination_key: seals challenges and resume tokens.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        try:
            keys = self._load_keys()
        except BaseException:
            self.close()
            raise
        self.relay_key, self.coordination_key = keys

    @property
    def database(self) -> Path:
        """Path of the identities' database."""
        return self.path(DATABASE_FILE)

    @property
    def admin_token_file(self) -> Path:
        """Path of the file with the first admin's token."""
        return self.path(ADMIN_TOKEN_FILE)

    def write_admin_token(self, token: str) -> None:
        """Writes the first admin's token to its file."""
        self.write(ADMIN_TOKEN_FILE, f"{token}\n".encode())

    def own_certificate(self, host: str) -> CertificateFiles:
        """Returns the server's own certificate, made now if there is none for this host. Raises UserError."""
        return own_certificate(self, host)

    def _load_keys(self) -> tuple[ServerPrivate, NodePrivate]:
        """Reads the relay key and the coordination key, or makes them.

        Raises UserError if the file is damaged.
        """
        try:
            data = self.read(KEYS_FILE)
        except FileNotFoundError:
            relay, coordination = ServerPrivate.generate(os.urandom), NodePrivate.generate(os.urandom)
            keys = _Keys(relay.secret_text(), coordination.secret_text())
            self.write(KEYS_FILE, msgspec.json.encode(keys))
            return relay, coordination
        try:
            keys = msgspec.json.decode(data, type=_Keys)
            return ServerPrivate.parse(keys.relay_key), NodePrivate.parse(keys.coordination_key)
        except ValueError:
            raise UserError(
                f"{self.path(KEYS_FILE)} is damaged",
                hint="Restore it from a backup, or remove it: every node then reconnects to a new relay key.",
                code="state_damaged",
            ) from None
