"""How much one user may have, as a server is told."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from coderd.config.quotas import QUOTA_SETTINGS
from coderd.config.server import parse_server_config
from coderd.config.sharing import MAX_SHARES
from coderd.model.errors import UserError
from coderd.model.quotas import Quotas

URL = {"access_url": "https://coder.example"}
PAGE = (Path(__file__).parents[3] / "docs" / "server.md").read_text(encoding="utf-8")


def test_flags_environment_and_file_say_it_and_by_default_it_is_as_the_limits_are() -> None:
    assert parse_server_config(URL, {}).quotas == Quotas()
    found = parse_server_config(
        {**URL, "max_apps": "0"}, {"CODERD_MAX_DEVICES": "7"}, 'max_tokens = "8"\n'
    ).quotas
    assert found == Quotas(apps=0, devices=7, tokens=8)


@pytest.mark.parametrize("text", ["-1", "x", "1000001", "1e3", "", "²"])
def test_what_is_no_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_server_config({**URL, "max_devices": text}, {})
    assert "max-devices" in caught.value.message


def test_the_page_says_the_options_as_they_are() -> None:
    rows = re.findall(r"^\| `--(max-\S+)` \| `(\S+)` \| (\d+) \|", PAGE, re.MULTILINE)
    wanted = [
        (setting.name.replace("_", "-"), setting.environment, setting.default)
        for setting in (*QUOTA_SETTINGS, MAX_SHARES)
    ]
    assert rows == wanted
    shown = [setting.help_text for setting in QUOTA_SETTINGS]
    defaults = [str(each) for each in asdict(Quotas()).values()]
    assert [re.findall(r"default: (\d+)\]", text) for text in shown] == [[each] for each in defaults]
