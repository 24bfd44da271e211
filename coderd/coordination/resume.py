"""Resume tokens, which distinguish a machine that reconnects from a second machine of its identity.

    <expiry, decimal seconds>.<hex HMAC-SHA256 over node id, node key and expiry>

A resume token does not authenticate: the identity comes from the bearer token alone.
"""

import hmac
from typing import Final
from uuid import UUID

from coderd.model import limits
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.sealed import Seal

LIFETIME: Final = limits.RESUME_LIFETIME


def make_resume_token(secret: NodePrivate, node_id: UUID, node_key: NodePublic, unix_now: float) -> str:
    """Makes a token for this node and key, valid for a day."""
    expiry = str(int(unix_now + LIFETIME))
    return f"{expiry}.{_mac(secret, node_id, node_key, expiry)}"


def is_resume_token(
    token: str, secret: NodePrivate, node_id: UUID, node_key: NodePublic, unix_now: float
) -> bool:
    """Returns whether ``make_resume_token`` made this token for this node and key within the last day."""
    expiry, _, seal = token.partition(".")
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) < 16 and seal.isascii()):
        return False
    is_ours = hmac.compare_digest(seal, _mac(secret, node_id, node_key, expiry))
    return is_ours and unix_now < int(expiry)


def _mac(secret: NodePrivate, node_id: UUID, node_key: NodePublic, expiry: str) -> str:
    return Seal(secret.raw, b"coderd resume").mac(node_id.bytes + node_key + expiry.encode()).hex()
