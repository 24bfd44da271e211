"""What a server is told about web apps."""

import pytest

from coderd.config.apps import AppOptions
from coderd.config.server import parse_server_config
from coderd.model.errors import UserError

BASE = {"access_url": "http://192.0.2.10:3000"}


def options(**flags: str) -> AppOptions:
    return parse_server_config({**BASE, **flags}, {}).apps


def test_apps_are_at_paths_in_a_sandbox_unless_somebody_says_otherwise() -> None:
    assert options() == AppOptions(wildcard="", has_path_apps=True, trusts_path_apps=False)


def test_coders_names_are_understood() -> None:
    environment = {"CODER_WILDCARD_ACCESS_URL": "*.Apps.example.com", "CODER_DISABLE_PATH_APPS": "true"}
    found = parse_server_config(BASE, environment).apps
    assert found == AppOptions(wildcard=".apps.example.com", has_path_apps=False)
    assert found.has_apps
    assert not options(disable_path_apps="true").has_apps


@pytest.mark.parametrize("text", ["apps.example.com", "https://*.example.com", "*.example.com:3000", "*"])
def test_what_is_no_wildcard_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError, match="--wildcard-access-url") as refused:
        options(wildcard_access_url=text)
    assert "*.apps.example.com" in refused.value.hint
