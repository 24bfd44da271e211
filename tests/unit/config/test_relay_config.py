"""What ``coderd derp`` makes of its options."""

import pytest

from coderd.config.relay import RelayConfig, parse_relay_config
from coderd.model.errors import Exit, UserError

VERIFY = {"verify_url": "https://coder.example.com/derp/verify"}


def parse(**flags: str) -> RelayConfig:
    return parse_relay_config(flags, {}, host_name="relay-host")


def parse_environment(environment: dict[str, str]) -> RelayConfig:
    return parse_relay_config({}, environment, host_name="relay-host")


def test_untold_where_it_is_reached_it_speaks_plain_http_by_the_hosts_name() -> None:
    config = parse(**VERIFY)
    assert (str(config.access_url), config.http_address) == ("http://relay-host:3340", ("::", 3340))
    assert (config.tls, config.stun_addresses) == (None, (("::", 3478),))


def test_an_https_url_has_it_speak_tls_at_that_port() -> None:
    config = parse(access_url="https://derp.example.com:8443", **VERIFY)
    assert (config.http_address, config.tls_address) == (None, ("::", 8443))
    assert config.tls is not None


def test_exactly_one_says_whom_it_serves() -> None:
    assert parse(**VERIFY).verify_url == VERIFY["verify_url"]
    assert parse(allow_any_client="true").verify_url is None
    both: list[dict[str, str]] = [{}, {**VERIFY, "allow_any_client": "true"}]
    for flags in both:
        with pytest.raises(UserError, match="whom it serves") as refusal:
            parse(**flags)
        assert refusal.value.exit_code is Exit.USAGE


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"verify_url": "ftp://coder"}, "--verify-url"),
        ({"verify_url": "https://user:secret@coder/derp/verify"}, "password"),
        ({"region_id": "0", **VERIFY}, "--region-id"),
        ({"region_id": "9" * 40, **VERIFY}, "--region-id"),
        ({"state_dir": "here", **VERIFY}, "--state-dir"),
        ({"stun_address": "nonsense", **VERIFY}, "--stun-address"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_without_secrets(flags: dict[str, str], word: str) -> None:
    with pytest.raises(UserError, match=word) as refusal:
        parse(**flags)
    assert "secret" not in refusal.value.message


def test_the_environment_may_say_all_of_it() -> None:
    config = parse_environment({"CODERD_DERP_ALLOW_ANY_CLIENT": "yes", "CODERD_DERP_STUN_ADDRESS": "off"})
    assert (config.verify_url, config.stun_addresses) == (None, ())
