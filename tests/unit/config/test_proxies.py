"""Options about proxies and Prometheus."""

from ipaddress import ip_network

import pytest

from coderd.config.server import ServerConfig, parse_server_config
from coderd.model.errors import UserError

URL = {"CODER_ACCESS_URL": "https://coder.example.com"}


def parse(**flags: str) -> ServerConfig:
    return parse_server_config(flags, URL)


def test_nobody_is_trusted_by_default() -> None:
    config = parse()
    assert config.proxy_origins == ()
    assert config.proxy_headers == ("x-forwarded-for",)
    assert config.prometheus_address is None


def test_proxies_are_networks_and_addresses_with_commas() -> None:
    config = parse(proxy_trusted_origins="10.0.0.0/8, ::1", proxy_trusted_headers="X-Real-IP")
    assert config.proxy_origins == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert config.proxy_headers == ("x-real-ip",)


@pytest.mark.parametrize("text", ["everybody", "10.0.0.1/8", "0.0.0.0/0", "::/0"])
def test_what_is_no_network_or_everybody_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--proxy-trusted-origins"):
        parse(proxy_trusted_origins=text)


def test_a_header_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="--proxy-trusted-headers"):
        parse(proxy_trusted_headers="X Forwarded")


def test_metrics_without_a_token_are_on_loopback_unless_told_otherwise() -> None:
    assert parse(prometheus_enable="true").prometheus_address == ("127.0.0.1", 2112)
    assert parse(prometheus_address="10.0.0.1:9000").prometheus_address == ("10.0.0.1", 9000)
