"""What others have written on the pages that need nothing but themselves.

No markup, and nothing that no eye sees.
"""

import re
from html import unescape
from uuid import UUID

from coderd.browser.pages import message_page, sign_in_page
from coderd.model.visible import is_hidden
from coderd.terminal.frames import MAX_BODY, Refused
from coderd.webterminal.messages import ShellIds, encode_for_browser
from coderd.webterminal.page import Problem, problem_page, terminal_page

_ID = UUID(int=1)
HOSTILE = "<script>x</script>\u202eevil\u202c\x1b[31m\x9b\u200b\r\n\u2028'\"&"


def test_pages_show_what_others_wrote_and_nothing_of_it_acts() -> None:
    pages = [
        message_page(HOSTILE, HOSTILE, HOSTILE),
        sign_in_page("/", HOSTILE),
        problem_page(HOSTILE, Problem(HOSTILE, HOSTILE)),
        terminal_page(HOSTILE, "nonce"),
    ]
    for page in pages:
        assert "<script>x" not in page
        text = unescape(re.sub(r"<[^>]*>", "", page))
        assert "evil" in text
        assert not any(map(is_hidden, text))


def test_a_workspaces_reason_is_shown_by_browser_as_one_line_that_fits() -> None:
    for text in (HOSTILE, "\u202e" * MAX_BODY, "🙂" * MAX_BODY):
        frame = encode_for_browser(Refused(text, text), ShellIds(bytes(32), _ID, _ID))
        assert not any(map(is_hidden, frame[1:].decode()))
        assert len(frame) <= 1 + MAX_BODY
