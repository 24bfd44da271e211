"""A server's URL and the pin behind it."""

import pytest

from coderd.config.url import parse_pinned_url, parse_server_url
from coderd.model.errors import UserError

PIN = "ab" * 32


def test_a_pin_travels_behind_the_origin() -> None:
    url = parse_server_url(f"https://192.0.2.10:3000#sha256:{PIN}")
    assert (str(url), url.pin) == ("https://192.0.2.10:3000", PIN)
    assert parse_server_url(url.text) == url
    assert parse_server_url("https://192.0.2.10:3000").text == "https://192.0.2.10:3000"


@pytest.mark.parametrize("pin", [f"sha256:{PIN}", PIN.upper(), ":".join(["AB"] * 32)])
def test_a_pin_may_be_written_as_openssl_prints_it(pin: str) -> None:
    assert parse_pinned_url("https://x", pin).pin == PIN


def test_a_pin_that_is_given_replaces_that_of_the_url() -> None:
    assert parse_pinned_url(f"https://x#sha256:{PIN}", "cd" * 32).pin == "cd" * 32
    assert parse_pinned_url(f"https://x#sha256:{PIN}", None).pin == PIN


@pytest.mark.parametrize("text", [f"http://x#sha256:{PIN}", "https://x#sha256:ab", "https://x#frag"])
def test_what_pins_nothing_is_refused(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_server_url(text)
    assert refused.value.code == "bad_pin"
