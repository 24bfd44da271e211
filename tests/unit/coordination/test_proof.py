"""A proof holds for one key, one challenge, one token and one server."""

import random

import pytest

from coderd.coordination.proof import is_proof, make_proof
from coderd.identity.tokens import hash_token
from coderd.model.keys import NodePrivate, NodePublic

rng = random.Random(5).randbytes
SERVER, NODE, OTHER = (NodePrivate.generate(rng) for _ in range(3))
NONCE = rng(32)
PROOF = make_proof(NODE, SERVER.public(), NONCE, "cdrd_a", rng)


def test_the_holder_of_the_key_is_believed() -> None:
    assert is_proof(PROOF, NODE.public(), SERVER, NONCE, hash_token("cdrd_a"))


def test_a_proof_is_good_for_nothing_else() -> None:
    token = hash_token("cdrd_a")
    assert not is_proof(PROOF, OTHER.public(), SERVER, NONCE, token), "another key"
    assert not is_proof(PROOF, NODE.public(), OTHER, NONCE, token), "another server"
    assert not is_proof(PROOF, NODE.public(), SERVER, rng(32), token), "another challenge"
    assert not is_proof(PROOF, NODE.public(), SERVER, NONCE, hash_token("cdrd_b")), "another token"
    assert not is_proof(
        make_proof(OTHER, SERVER.public(), NONCE, "cdrd_a", rng), NODE.public(), SERVER, NONCE, token
    )


@pytest.mark.parametrize("text", ["", "A", "====", "ä", "AAAA", "A" * 512, PROOF[:-4], PROOF + "AAAA"])
def test_noise_is_no_proof(text: str) -> None:
    assert not is_proof(text, NODE.public(), SERVER, NONCE, hash_token("cdrd_a"))


def test_a_key_of_low_order_proves_nothing_and_is_answered_by_nobody() -> None:
    zero = NodePublic(bytes(32))
    assert not is_proof(PROOF, zero, SERVER, NONCE, hash_token("cdrd_a"))
    with pytest.raises(ValueError, match="usable"):
        make_proof(NODE, zero, NONCE, "cdrd_a", rng)
