"""A server's URL and the trust behind it: a pin, a file of authorities, or none at all on purpose."""

import pytest

from coderd.config.url import check_secrecy, parse_server_url, trusted_url
from coderd.model.errors import Exit, UserError

PIN = "ab" * 32


def test_a_pin_travels_behind_the_origin() -> None:
    url = parse_server_url(f"https://192.0.2.10:3000#sha256:{PIN}")
    assert (str(url), url.pin) == ("https://192.0.2.10:3000", PIN)
    assert parse_server_url(url.text) == url
    assert parse_server_url("https://192.0.2.10:3000").text == "https://192.0.2.10:3000"


@pytest.mark.parametrize("pin", [f"sha256:{PIN}", PIN.upper(), ":".join(["AB"] * 32)])
def test_a_pin_may_be_written_as_openssl_prints_it(pin: str) -> None:
    assert trusted_url("https://x", pin=pin).pin == PIN


def test_a_pin_that_is_given_replaces_that_of_the_url() -> None:
    assert trusted_url(f"https://x#sha256:{PIN}", pin="cd" * 32).pin == "cd" * 32
    assert trusted_url(f"https://x#sha256:{PIN}").pin == PIN


@pytest.mark.parametrize("text", [f"http://x#sha256:{PIN}", "https://x#sha256:ab", "https://x#frag"])
def test_what_pins_nothing_is_refused(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_server_url(text)
    assert refused.value.code == "bad_pin"


def test_a_file_of_authorities_travels_behind_the_origin_whatever_its_name() -> None:
    url = trusted_url("https://x", ca_file="/etc/my ca#1.pem")
    assert (str(url), url.trust) == ("https://x", "ca:/etc/my%20ca%231.pem")
    assert parse_server_url(url.text) == url


def test_of_a_pin_and_authorities_what_was_given_last_counts() -> None:
    assert trusted_url(f"https://x#sha256:{PIN}", ca_file="/ca.pem").text == "https://x#ca:/ca.pem"
    assert trusted_url("https://x#ca:/ca.pem", pin=PIN).text == f"https://x#sha256:{PIN}"


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("http://x", {"ca_file": "/ca.pem"}),
        ("https://x", {"ca_file": "ca.pem"}),
        ("https://x#ca:", {}),
        ("https://x", {"ca_file": "/ca.pem", "pin": PIN}),
    ],
)
def test_authorities_that_nothing_can_be_asked_of_are_refused(text: str, given: dict[str, str]) -> None:
    with pytest.raises(UserError) as refused:
        trusted_url(text, pin=given.get("pin"), ca_file=given.get("ca_file"))
    assert refused.value.exit_code is Exit.USAGE


@pytest.mark.parametrize(
    "url", ["http://192.0.2.10:3000", "http://[fe80::1]", "http://localhost.example.com"]
)
def test_tokens_travel_unencrypted_only_where_somebody_said_so(url: str) -> None:
    with pytest.raises(UserError) as refused:
        check_secrecy(parse_server_url(url))
    assert refused.value.exit_code is Exit.REFUSED
    accepted = trusted_url(url, insecure=True)
    check_secrecy(accepted)
    assert accepted.text == f"{url}#insecure"
    check_secrecy(parse_server_url(accepted.text))


@pytest.mark.parametrize(
    "url",
    [
        "https://192.0.2.10",
        "http://127.0.0.1:3000",
        "http://[::1]:3000",
        "http://localhost",
        "http://a.localhost",
    ],
)
def test_what_is_encrypted_or_leaves_no_machine_needs_nobodys_consent(url: str) -> None:
    check_secrecy(parse_server_url(url))
    assert trusted_url(url, insecure=True).may_carry_tokens


def test_consent_to_plain_http_is_nothing_to_an_encrypted_server() -> None:
    assert trusted_url("https://x", insecure=True).text == "https://x"
    assert parse_server_url("https://x#insecure").text == "https://x"
