from pathlib import Path

import pytest

from coderd.config.io.node import parse_node_config
from coderd.config.node import NodeConfig
from coderd.model.errors import Exit, UserError


def test_without_a_word_a_node_waits_for_up() -> None:
    assert parse_node_config({}, {}) == NodeConfig()


def test_flag_goes_before_environment_before_file() -> None:
    file = 'interface = "file0"\nmtu = "1400"\nlisten_port = "1000"'
    environment = {"CODERD_MTU": "1380", "CODERD_LISTEN_PORT": "2000"}
    config = parse_node_config({"listen_port": "3000"}, environment, file)
    assert (config.interface, config.mtu, config.listen_port) == ("file0", 1380, 3000)


def test_a_workspace_brings_server_and_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("cdrw_secret\n")
    config = parse_node_config(
        {"access_url": "https://192.0.2.10:3000/", "token_file": str(tmp_path / "token")}, {}
    )
    assert (config.access_url, config.token) == ("https://192.0.2.10:3000", "cdrw_secret")
    assert "secret" not in repr(config)


def test_a_pin_belongs_to_the_server() -> None:
    environment = {"CODER_AGENT_URL": "https://192.0.2.10:3000", "CODER_AGENT_TOKEN": "cdrw_secret"}
    pinned = f"https://192.0.2.10:3000#sha256:{'ab' * 32}"
    assert parse_node_config({"pin": "AB" * 32}, environment).access_url == pinned
    assert parse_node_config({}, {**environment, "CODERD_SERVER_PIN": "ab" * 32}).access_url == pinned


def test_an_agent_s_environment_works_too() -> None:
    environment = {"CODER_AGENT_URL": "https://192.0.2.10:3000", "CODER_AGENT_TOKEN": "cdrw_secret"}
    config = parse_node_config({}, environment)
    assert (config.access_url, config.token) == ("https://192.0.2.10:3000", "cdrw_secret")


def test_a_birthday_is_played_on_wish_alone() -> None:
    assert parse_node_config({}, {"CODERD_BIRTHDAY": "1"}).plays_birthday
    assert parse_node_config({}, {}, "birthday = true").plays_birthday
    assert not parse_node_config({"birthday": "false"}, {"CODERD_BIRTHDAY": "1"}).plays_birthday


def test_the_operator_is_a_name_or_a_number() -> None:
    assert parse_node_config({"operator": "root"}, {}).operator_uid == 0
    assert parse_node_config({"operator": "1000"}, {}).operator_uid == 1000
    for nobody in ("nobody-of-this-name", "-1", "+0", "0x0", "1000 ", "--operator", ""):
        with pytest.raises(UserError):
            parse_node_config({"operator": nobody}, {})


@pytest.mark.parametrize(
    "flags",
    [
        {"mtu": "1279"},
        {"mtu": "9001"},
        {"mtu": "big"},
        {"listen_port": "0"},
        {"birthday": "perhaps"},
        {"interface": "0123456789abcdef"},
        {"interface": ".."},
        {"interface": "a b"},
        {"operator": "no-such-user-here"},
        {"access_url": "https://192.0.2.10:3000"},
        {"token_file": "/dev/null"},
        {"access_url": "nonsense", "token_file": "/dev/null"},
    ],
)
def test_a_value_that_cannot_be_is_wrong_usage(flags: dict[str, str]) -> None:
    with pytest.raises(UserError) as caught:
        parse_node_config(flags, {})
    assert caught.value.exit_code is Exit.USAGE


def test_an_http_server_has_to_be_accepted(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("cdrw_secret")
    flags = {"access_url": "http://192.0.2.10:3000", "token_file": str(tmp_path / "token")}
    with pytest.raises(UserError) as refused:
        parse_node_config(flags, {})
    assert refused.value.exit_code is Exit.REFUSED
    for accepted in (
        parse_node_config(flags | {"insecure": "true"}, {}),
        parse_node_config(flags, {"CODERD_INSECURE": "1"}),
        parse_node_config(flags, {}, "insecure = true"),
    ):
        assert accepted.access_url == "http://192.0.2.10:3000#insecure"


def test_the_server_s_authorities_are_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("cdrw_secret")
    (tmp_path / "ca.pem").touch()
    flags = {"access_url": "https://x", "token_file": str(tmp_path / "token")}
    config = parse_node_config(flags, {"CODERD_SERVER_CA_FILE": str(tmp_path / "ca.pem")})
    assert config.access_url == f"https://x#ca:{tmp_path}/ca.pem"
    with pytest.raises(UserError, match="no such file"):
        parse_node_config(flags | {"ca_file": str(tmp_path / "missing.pem")}, {})


def test_local_users_are_names_and_numbers_or_all() -> None:
    assert parse_node_config({}, {}).local_users is None
    assert parse_node_config({"local_users": "all"}, {}).local_users is None
    assert parse_node_config({"local_users": "root, 1000"}, {}).local_users == frozenset({0, 1000})
    assert parse_node_config({}, {"CODERD_LOCAL_USERS": "1000"}).local_users == frozenset({1000})
    assert parse_node_config({}, {}, 'local_users = "1000"').local_users == frozenset({1000})
    for nobody in ("", ",", "all,root", "no-such-user-here", "-1", "4294967295", "99999999999"):
        with pytest.raises(UserError) as caught:
            parse_node_config({"local_users": nobody}, {})
        assert caught.value.exit_code is Exit.USAGE
