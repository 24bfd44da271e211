"""Resume tokens tell a returning machine from a second one."""

import random
from uuid import UUID

import pytest

from coderd.coordination.resume import LIFETIME, is_resume_token, make_resume_token
from coderd.model.keys import NodePrivate

rng = random.Random(6).randbytes
SECRET, OTHER = NodePrivate.generate(rng), NodePrivate.generate(rng)
NODE, KEY = UUID(int=1), NodePrivate.generate(rng).public()
TOKEN = make_resume_token(SECRET, NODE, KEY, 1000.0)


def test_a_token_is_good_for_its_node_and_key_for_a_day() -> None:
    assert is_resume_token(TOKEN, SECRET, NODE, KEY, 1000.0 + LIFETIME - 1)
    assert not is_resume_token(TOKEN, SECRET, NODE, KEY, 1000.0 + LIFETIME)
    assert not is_resume_token(TOKEN, OTHER, NODE, KEY, 1000.0)
    assert not is_resume_token(TOKEN, SECRET, UUID(int=2), KEY, 1000.0)
    assert not is_resume_token(TOKEN, SECRET, NODE, OTHER.public(), 1000.0)


@pytest.mark.parametrize(
    "text", ["", ".", "9" * 400 + ".x", "12.", "-1.a", "٣.a", "9999999." + "0" * 64, "1.ä"]
)
def test_noise_is_no_token(text: str) -> None:
    assert not is_resume_token(text, SECRET, NODE, KEY, 1000.0)


def test_the_expiry_cannot_be_moved() -> None:
    expiry, _, seal = TOKEN.partition(".")
    assert not is_resume_token(f"{int(expiry) + 1}.{seal}", SECRET, NODE, KEY, 1000.0)
