"""One setting out of three places, and what a file may hold."""

import pytest

from coderd.config.kinds import TEXT, as_bool
from coderd.config.sources import Setting, Sources, Value, parse_file
from coderd.model.errors import Exit, UserError

SETTINGS = (Setting("name", "X_NAME", TEXT), Setting("other", "X_OTHER", TEXT))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name = "text"', "text"),
        ("name = true", "true"),
        ("name = false", "false"),
        ("name = 999", "999"),
        ('name = ["a", "b"]', "a,b"),
        ("name = []", ""),
    ],
)
def test_a_file_may_say_it_in_tomls_own_types(text: str, expected: str) -> None:
    assert parse_file(text, SETTINGS, "x.toml") == {"name": expected}


@pytest.mark.parametrize("text", ["name = 1.5", "name = 1979-05-27", "name = [1]", "[name]\nx = 1"])
def test_other_types_are_refused_by_name(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_file(text, SETTINGS, "x.toml")
    assert "x.toml" in caught.value.message
    assert "name must be" in caught.value.message
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize("text", ["true", "True", " yes ", "on", "1"])
def test_these_words_are_true(text: str) -> None:
    assert as_bool(Value(text, "--flag"))


@pytest.mark.parametrize("text", ["false", "FALSE", "no", "off", "0"])
def test_these_words_are_false(text: str) -> None:
    assert not as_bool(Value(text, "--flag"))


@pytest.mark.parametrize("text", ["", "maybe", "2", "enabled"])
def test_any_other_word_is_neither_and_its_origin_is_named(text: str) -> None:
    with pytest.raises(UserError, match="--flag cannot be used: it is neither true nor false"):
        as_bool(Value(text, "--flag"))


def test_the_file_gives_way_to_the_environment_and_both_to_the_flag() -> None:
    setting = SETTINGS[0]
    assert Sources({}, {}, {"name": "file"}).find(setting) == Value("file", "name in the configuration file")
    assert Sources({}, {"X_NAME": "env"}, {"name": "file"}).find(setting) == Value("env", "X_NAME")
    assert Sources({"name": "flag"}, {"X_NAME": "env"}, {}).find(setting) == Value("flag", "--name")
