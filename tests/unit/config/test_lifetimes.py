"""How long a server lets in whom it has let in, as it is told."""

import re
from pathlib import Path

import pytest

from coderd.config.lifetimes import DAY, LIFETIME_SETTINGS, LifetimeOptions
from coderd.config.server import parse_server_config, parse_server_lifetimes
from coderd.identity.policy import Terms
from coderd.model.errors import UserError

URL = {"access_url": "https://coder.example"}
PAGE = (Path(__file__).parents[3] / "docs" / "server.md").read_text(encoding="utf-8")


def test_flags_environment_and_file_say_it() -> None:
    assert parse_server_config(URL, {}).lifetimes == LifetimeOptions()
    found = parse_server_config(
        {**URL, "device_lifetime": "90d", "require_device_approval": "true"},
        {"CODERD_MAX_TOKEN_LIFETIME": "12h"},
        'session_lifetime = "90m"\n',
    ).lifetimes
    assert found == LifetimeOptions(session=5400, max_token=43_200, device=90 * DAY, needs_approval=True)
    assert parse_server_lifetimes({}, 'session_lifetime = "3600"\n').session == 3600


def test_by_default_it_is_as_policy_has_it() -> None:
    defaults, terms = LifetimeOptions(), Terms()
    assert (defaults.session, defaults.max_token) == (terms.session_lifetime, terms.max_token_lifetime)
    assert (defaults.device, defaults.needs_approval) == (terms.device_lifetime, terms.needs_approval)


@pytest.mark.parametrize("text", ["-1", "x", "59", "off", "1w", "", "99999999d", "1h30m", "²d"])
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_server_config({**URL, "session_lifetime": text}, {})
    assert "session-lifetime" in caught.value.message


def test_the_page_names_every_option_with_its_default() -> None:
    rows = re.findall(r"^\| `--([a-z-]+)(?: \S+)?` \| ", PAGE, re.MULTILINE)
    assert [setting.name.replace("_", "-") for setting in LIFETIME_SETTINGS] == [
        row for row in rows if row.endswith(("lifetime", "approval"))
    ]
    assert "`--session-lifetime 30d`" in PAGE
    assert "`--max-token-lifetime 365d`" in PAGE
