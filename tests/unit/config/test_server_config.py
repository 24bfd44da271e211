"""The server's configuration: flag > environment > file, and errors that name the culprit."""

from pathlib import Path

import pytest

from coderd.config.server import DEFAULT_STUN_ADDRESSES, parse_server_config
from coderd.config.sharing import SharingOptions
from coderd.config.url import parse_server_url
from coderd.model.errors import Exit, UserError

URL = "http://192.0.2.10:3000"


def test_an_http_access_url_decides_the_port() -> None:
    config = parse_server_config({"access_url": "http://192.0.2.10:8080"}, {})
    assert config.http_address == ("::", 8080)
    assert config.stun_addresses == DEFAULT_STUN_ADDRESSES
    assert config.state_dir == Path("/var/lib/coderd-server")


def test_behind_a_tls_proxy_the_port_is_3000() -> None:
    flags = {"access_url": "https://coder.example.com", "tls_enable": "false"}
    assert parse_server_config(flags, {}).http_address == ("::", 3000)


def test_a_flag_beats_the_environment_which_beats_the_file() -> None:
    file = 'access_url = "http://file:1"\nhttp_address = ":1"\nstun_address = "off"'
    environment = {"CODER_ACCESS_URL": "http://environment:2", "CODER_HTTP_ADDRESS": "127.0.0.1:2"}
    config = parse_server_config({"access_url": "http://flag:3", "http_address": None}, environment, file)
    assert config.access_url.host == "flag"
    assert config.http_address == ("127.0.0.1", 2)
    assert config.stun_addresses == ()


def test_how_users_may_share_is_an_option() -> None:
    assert parse_server_config({"access_url": URL}, {}).sharing == SharingOptions(
        accepts=False, max_given=500
    )
    given = {"CODERD_ACCEPT_SHARES": "true", "CODERD_MAX_SHARES": "7"}
    assert parse_server_config({"access_url": URL}, given).sharing == SharingOptions(
        accepts=True, max_given=7
    )


def test_an_empty_variable_is_unset() -> None:
    with pytest.raises(UserError) as caught:
        parse_server_config({}, {"CODER_ACCESS_URL": ""})
    assert (caught.value.code, caught.value.exit_code) == ("no_access_url", Exit.USAGE)


def test_stun_listens_at_as_many_addresses_as_given() -> None:
    config = parse_server_config({"access_url": URL, "stun_address": "192.0.2.1:3478, [::1]:9"}, {})
    assert config.stun_addresses == (("192.0.2.1", 3478), ("::1", 9))


@pytest.mark.parametrize(
    ("flags", "file", "culprit"),
    [
        ({"http_address": "nonsense"}, "", "--http-address"),
        ({"http_address": "1.2.3.4:99999"}, "", "--http-address"),
        ({"stun_address": ","}, "", "--stun-address"),
        ({"stun_address": ",".join(["127.0.0.1:1"] * 9)}, "", "--stun-address"),
        ({"state_dir": "relative"}, "", "--state-dir"),
        ({"max_shares": "-1"}, "", "--max-shares"),
        ({"max_shares": "1000001"}, "", "--max-shares"),
        ({"accept_shares": "perhaps"}, "", "--accept-shares"),
        ({}, 'state_dir = "relative"', "state_dir in the configuration file"),
        ({}, "acess_url = 'x'", "no setting named acess_url"),
        ({}, "access_url = 5.5", "access_url must be a text"),
        ({}, "= nonsense", "not TOML"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_origin(
    flags: dict[str, str], file: str, culprit: str
) -> None:
    with pytest.raises(UserError) as caught:
        parse_server_config({"access_url": URL, **flags}, {}, file)
    assert culprit in caught.value.message
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://192.0.2.10:3000", "http://192.0.2.10:3000"),
        ("http://192.0.2.10:80/", "http://192.0.2.10"),
        (" https://Coder.Example.COM ", "https://coder.example.com"),
        ("https://[2001:DB8::1]:3000", "https://[2001:db8::1]:3000"),
    ],
)
def test_a_url_is_reduced_to_its_origin(text: str, expected: str) -> None:
    assert str(parse_server_url(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "192.0.2.10:3000", "ftp://x", "http://", "http://x/path", "http://x?q", "http://x#f", "http://x:0",
        "http://x:99999", "http://x y", "http://a..b", "http://" + "a" * 64, "http://user:secret@x", "http://[::1", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_anything_else_is_no_url_and_no_secret_is_repeated(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_server_url(text)
    assert caught.value.exit_code is Exit.USAGE
    assert "secret" not in caught.value.message + caught.value.hint
