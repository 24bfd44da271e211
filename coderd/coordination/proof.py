r"""The proof that a node holds the private half of the node key that it claims.

The server sends its public coordination key and a fresh nonce; the node answers with a NaCl box, from its
node key to the server's key, over

    0    len  context   b"coderd coordination proof v1\0"
    len  32   nonce     the challenge's
    +32  32   token     SHA-256 of the bearer token of this very connection

preceded by the box's own 24-byte nonce. The token binds the proof to the identity that presents it: a hostile
server that passes another server's challenge on to us gets a proof that is worth nothing without our token.
"""

import hashlib
import hmac
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from functools import lru_cache

from nacl.exceptions import CryptoError
from nacl.public import Box
from nacl.public import PrivateKey as NaclPrivate
from nacl.public import PublicKey as NaclPublic

from coderd.model import RandomBytes
from coderd.model.keys import NodePrivate, NodePublic

NONCE_SIZE = 32

_CONTEXT = b"coderd coordination proof v1\0"


def make_proof(
    node_key: NodePrivate, server_key: NodePublic, nonce: bytes, token: str, rng: RandomBytes
) -> str:
    """Returns the answer to a challenge, in base64.

    Raises ValueError if the server's key is no usable point.
    """
    try:
        box = Box(NaclPrivate(node_key.raw), NaclPublic(bytes(server_key)))
    except CryptoError:
        raise ValueError("the server's coordination key is not a usable key") from None
    sealed = box.encrypt(_claim(nonce, token), rng(Box.NONCE_SIZE))
    return b2a_base64(bytes(sealed), newline=False).decode()


def is_proof(
    proof: str, node_key: NodePublic, server_key: NodePrivate, nonce: bytes, token_hash: bytes
) -> bool:
    """Returns whether ``proof`` was made with the private half of ``node_key``, for this nonce and token."""
    try:
        sealed = a2b_base64(proof, strict_mode=True)
        claim = Box(_private(server_key.raw), NaclPublic(bytes(node_key))).decrypt(sealed)
    except (Base64Error, CryptoError, ValueError):
        return False
    return hmac.compare_digest(claim, _CONTEXT + nonce + token_hash)


@lru_cache(maxsize=1)
def _private(raw: bytes) -> NaclPrivate:
    """The server's own key, which is the same each time: to make one derives its public half."""
    return NaclPrivate(raw)


def _claim(nonce: bytes, token: str) -> bytes:
    return _CONTEXT + nonce + hashlib.sha256(token.encode()).digest()
