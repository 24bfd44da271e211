"""What the server is told about relays."""

from pathlib import Path

import pytest

from coderd.config.derp import TAILSCALE_MAP, DerpOptions, StunServer
from coderd.config.server import ServerConfig, parse_server_config
from coderd.model.errors import Exit, UserError

URL = "http://192.0.2.10:3000"


def parse(file: str = "", **flags: str) -> ServerConfig:
    return parse_server_config({"access_url": URL, **flags}, {}, file)


def test_by_default_there_is_the_servers_own_relay_and_its_own_stun() -> None:
    assert parse().derp == DerpOptions()
    assert parse().stun_addresses


def test_environment_names_are_coders() -> None:
    environment = {
        "CODER_DERP_CONFIG_PATH": "/etc/coderd/derpmap.json",
        "CODER_DERP_SERVER_ENABLE": "false",
        "CODER_DERP_SERVER_REGION_ID": "900",
        "CODER_DERP_SERVER_REGION_CODE": "fra",
        "CODER_DERP_SERVER_REGION_NAME": "Frankfurt",
        "CODER_DERP_SERVER_STUN_ADDRESSES": "stun.example.com:19302,[2001:db8::1]:5",
        "CODERD_DERP_SERVER_CLIENT_RATE": "1000000",
        "CODER_DERP_FORCE_WEBSOCKETS": "true",
        "CODER_BLOCK_DIRECT": "true",
    }
    assert parse_server_config({"access_url": URL}, environment).derp == DerpOptions(
        has_relay=False,
        region_id=900,
        region_code="fra",
        region_name="Frankfurt",
        map_path=Path("/etc/coderd/derpmap.json"),
        stun_servers=(StunServer("stun.example.com", 19302), StunServer("2001:db8::1", 5)),
        client_rate=1_000_000,
        force_websockets=True,
        blocks_direct=True,
    )


def test_a_file_may_use_tomls_own_types() -> None:
    options = parse('derp_server_region_id = 900\nderp_server_stun_addresses = ["stun.example.com"]').derp
    assert options.region_id == 900
    assert options.stun_servers == (StunServer("stun.example.com", 3478),)


def test_the_default_map_is_tailscales() -> None:
    assert parse(derp_config_url="default").derp.map_url == TAILSCALE_MAP
    assert parse(derp_config_url="http://10.0.0.1/map.json").derp.map_url == "http://10.0.0.1/map.json"


def test_disable_turns_off_all_stun_also_our_own() -> None:
    config = parse(derp_server_stun_addresses="disable")
    assert config.stun_addresses == ()
    assert not config.derp.has_stun


def test_there_is_one_map_from_one_place() -> None:
    with pytest.raises(UserError) as caught:
        parse('derp_config_path = "/x"', derp_config_url="default")
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.message == (
        "there can be only one DERP map, and both --derp-config-url and"
        " derp_config_path in the configuration file name one"
    )


def test_there_has_to_be_some_relay() -> None:
    with pytest.raises(
        UserError, match="there would be no relay at all: --derp-server-enable is false"
    ) as caught:
        parse(derp_server_enable="false")
    assert caught.value.exit_code is Exit.USAGE
    assert not parse(derp_server_enable="false", derp_config_url="default").derp.has_relay


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("derp_server_region_id", "0"),
        ("derp_server_region_id", "65536"),
        ("derp_server_region_id", "-1"),
        ("derp_server_region_id", "\N{SUPERSCRIPT TWO}"),
        ("derp_server_region_code", ""),
        ("derp_server_region_code", "\x1b[2J"),
        ("derp_server_region_name", "x" * 300),
        ("derp_config_url", "derpmap.json"),
        ("derp_config_url", "ftp://x/map"),
        ("derp_config_url", "https://"),
        ("derp_config_url", "https://user:hunter2@example.com/map"),
        ("derp_config_url", "https://[::1"),
        ("derp_server_enable", "perhaps"),
        ("derp_server_stun_addresses", "stun.example.com:0"),
        ("derp_server_stun_addresses", "stun.example.com:99999"),
        ("derp_server_stun_addresses", "http://stun.example.com"),
        ("derp_server_stun_addresses", "a b"),
        ("derp_server_stun_addresses", ","),
        ("derp_server_stun_addresses", "x@y"),
        ("derp_server_stun_addresses", ",".join(["x"] * 17)),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(**{name: value})
    assert "--" + name.replace("_", "-") in caught.value.message
    assert "hunter2" not in caught.value.message
    assert caught.value.exit_code is Exit.USAGE


def test_numbers_of_stun_regions_must_fit_behind_the_servers_own() -> None:
    with pytest.raises(UserError, match="from 1 to 65533"):
        parse(derp_server_region_id="65534", derp_server_stun_addresses="a,b")
