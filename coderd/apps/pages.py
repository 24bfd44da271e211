"""The few pages that web apps need of the server itself. Pure."""

import hashlib
from base64 import b64encode
from html import escape
from typing import Final

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem;color:#1b1f24;background:#fff}"
    "h1{font-size:1.4rem}input,button{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;margin:.25rem 0}"
    "@media(prefers-color-scheme:dark){body{color:#e6e8eb;background:#16181c}}"
)
SUBMIT: Final = "document.forms[0].submit()"


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(*, form_action: str = "'none'", has_script: bool = False) -> str:
    """The Content-Security-Policy of such a page."""
    script = f"; script-src {_hash(SUBMIT)}" if has_script else ""
    return (
        f"default-src 'none'; style-src {_hash(STYLE)}{script}; form-action {form_action};"
        " frame-ancestors 'none'; base-uri 'none'"
    )


def message_page(title: str, sentence: str, hint: str = "") -> str:
    """A heading, a sentence and what to do next."""
    below = f"<p>{escape(hint)}</p>" if hint else ""
    return _page(title, f"<h1>{escape(title)}</h1><p>{escape(sentence)}</p>{below}")


def sign_in_page(target: str, error: str = "") -> str:
    """Asks for a session token, to go on at a path."""
    alert = f'<p role="alert">{escape(error)}</p>' if error else ""
    return _page(
        "Sign in",
        f'<h1>Sign in</h1>{alert}<form method="post" action="/login">'
        f'<input type="hidden" name="next" value="{escape(target)}">'
        '<label>Session token<input type="password" name="token" autocomplete="current-password" required autofocus></label>'
        "<button>Sign in</button></form>",
    )


def hand_over_page(action: str, ticket: str) -> str:
    """Posts a ticket to an app's host: by itself, or by a button where there are no scripts."""
    return _page(
        "One moment",
        f'<h1>One moment</h1><form method="post" action="{escape(action)}">'
        f'<input type="hidden" name="ticket" value="{escape(ticket)}"><button>Continue to the app</button></form>'
        f"<script>{SUBMIT}</script>",
    )


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>{body}</html>"
    )
