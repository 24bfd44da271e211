"""The page that hands a user over to an app's host. Pure."""

from html import escape
from typing import Final

from coderd.browser.pages import document

SUBMIT: Final = "document.forms[0].submit()"


def hand_over_page(action: str, ticket: str) -> str:
    """Returns a page that posts a ticket to an app's host: by a script, or without scripts by a button."""
    return document(
        "One moment",
        f'<h1>One moment</h1><form method="post" action="{escape(action)}">'
        f'<input type="hidden" name="ticket" value="{escape(ticket)}"><button>Continue to the app</button></form>'
        f"<script>{SUBMIT}</script>",
    )
