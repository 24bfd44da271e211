"""What is sealed opens for its purpose, its context and its time alone."""

import hashlib
import hmac
from base64 import urlsafe_b64encode

from hypothesis import given
from hypothesis import strategies as st

from coderd.browser.passes import Pass, read_pass
from coderd.model.sealed import Opened, Seal

SECRET = bytes(range(32))
SEAL = Seal(SECRET, b"coderd test")


def test_what_is_sealed_opens_until_it_expires() -> None:
    text = SEAL.seal(b"payload", b"context", 1000)
    assert SEAL.open(text, b"context", 7, 999.9) == Opened(b"payload", 1000)
    assert SEAL.open(text, b"context", 7, 1000.0) is None
    assert SEAL.open(text, b"other", 7, 0.0) is None
    assert SEAL.open(text, b"context", 6, 0.0) is None


def test_nothing_made_for_one_purpose_passes_for_another() -> None:
    other = Seal(SECRET, b"coderd other")
    assert other.open(SEAL.seal(b"p", b"", 1000), b"", 1, 0.0) is None
    assert not other.is_mac(SEAL.mac(b"data"), b"data")
    assert SEAL.mac(b"data") != hmac.digest(SECRET, b"data", hashlib.sha256)


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_any_other_text_opens_nothing(text: str) -> None:
    assert SEAL.open(text, b"", 8, 0.0) is None


def test_a_pass_that_0_1_0_made_is_good_until_it_expires() -> None:
    head = (1000).to_bytes(8, "big") + bytes(32)
    mac = hmac.digest(SECRET, b"coderd app pass\0" + b"a.example\0" + head, hashlib.sha256)
    text = urlsafe_b64encode(head + mac).decode()
    assert read_pass(SECRET, "a.example", text, 0.0) == Pass(bytes(32), 1000)
    assert read_pass(SECRET, "b.example", text, 0.0) is None
    assert read_pass(SECRET, "a.example", text, 1000.0) is None
