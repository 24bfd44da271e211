"""Resume tokens: how a machine that connects again shows that it is the one whose old connection may still linger.

    <expiry, decimal seconds>.<hex HMAC-SHA256 over node id, node key and expiry>

Identity comes from the bearer token alone; a resume token only tells a returning machine from a second one.
"""

import hashlib
import hmac
from typing import Final
from uuid import UUID

from coderd.model import limits
from coderd.model.keys import NodePrivate, NodePublic

LIFETIME: Final = limits.RESUME_LIFETIME


def make_resume_token(secret: NodePrivate, node_id: UUID, node_key: NodePublic, unix_now: float) -> str:
    """A token for this node and key, good for a day."""
    expiry = str(int(unix_now + LIFETIME))
    return f"{expiry}.{_seal(secret, node_id, node_key, expiry)}"


def is_resume_token(
    token: str, secret: NodePrivate, node_id: UUID, node_key: NodePublic, unix_now: float
) -> bool:
    """Whether ``make_resume_token`` made this token for this node and key within the last day."""
    expiry, _, seal = token.partition(".")
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) < 16 and seal.isascii()):
        return False
    expected = _seal(secret, node_id, node_key, expiry)
    return hmac.compare_digest(seal, expected) and unix_now < int(expiry)


def _seal(secret: NodePrivate, node_id: UUID, node_key: NodePublic, expiry: str) -> str:
    key = hashlib.blake2b(secret.raw, person=b"coderd resume").digest()
    return hmac.new(key, node_id.bytes + node_key + expiry.encode(), "sha256").hexdigest()
