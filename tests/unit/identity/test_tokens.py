"""Tokens: kinds by prefix, hashes instead of texts."""

import random

import pytest

from coderd.identity.tokens import MAX_TOKEN_LENGTH, TokenKind, hash_token, make_token, token_kind

rng = random.Random(1).randbytes


@pytest.mark.parametrize("kind", TokenKind)
def test_a_token_tells_its_kind_and_fits_a_header(kind: TokenKind) -> None:
    token = make_token(kind, rng)
    assert token_kind(token) is kind
    assert len(token) == 5 + 43
    assert token.isascii()
    assert " " not in token


def test_tokens_differ_and_so_do_their_hashes() -> None:
    tokens = {make_token(TokenKind.SESSION, rng) for _ in range(100)}
    assert len({hash_token(token) for token in tokens}) == 100


@pytest.mark.parametrize(
    "text", ["", "cdrx_abc", "cdrs", "CDRS_abc", "cdrs_ä", "cdrs_" + "a" * MAX_TOKEN_LENGTH]
)
def test_what_cannot_be_a_token_has_no_kind(text: str) -> None:
    assert token_kind(text) is None
