"""The few pages that need nothing but themselves: a sentence, and signing in. Pure."""

import hashlib
from base64 import b64encode
from html import escape
from typing import Final

from coderd.browser.policy import NO_FRAMES
from coderd.model.visible import visible

STYLE: Final = (
    ":root{color-scheme:light dark}a{color:#0b62c4}h1{font-size:1.4rem}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:28rem;margin:15vh auto;padding:0 1.25rem;color:#1b1f24;background:#fff}"
    "input,button{font:inherit;padding:.5rem .75rem;width:100%;box-sizing:border-box;margin:.25rem 0 .5rem;border-radius:6px;"
    "border:1px solid #99a3ad}button{background:#0b62c4;border-color:#0b62c4;color:#fff;cursor:pointer}[role=alert]{color:#c01c28}"
    "@media(prefers-color-scheme:dark){body{color:#e6e8eb;background:#16181c}a{color:#6cb0ff}[role=alert]{color:#ff7b72}}"
)


def shown(text: str) -> str:
    """Returns text escaped for HTML, with control characters made visible."""
    return escape(visible(text))


def content_hash(text: str) -> str:
    """Returns the hash by which a Content-Security-Policy names an inline style or script."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(*, form_action: str = "'none'", script: str = "") -> str:
    """Returns the Content-Security-Policy of a plain page."""
    script_source = f"; script-src {content_hash(script)}" if script else ""
    return (
        f"default-src 'none'; style-src {content_hash(STYLE)}{script_source}; form-action {form_action};"
        f" {NO_FRAMES}"
    )


def message_page(title: str, sentence: str, hint: str = "", *, link: str = "") -> str:
    """Returns a page with a heading, a sentence and what to do next."""
    below = f"<p>{shown(hint)}</p>" if hint else ""
    below += f'<p><a href="{escape(link)}">{escape(link)}</a></p>' if link else ""
    return document(title, f"<h1>{shown(title)}</h1><p>{shown(sentence)}</p>{below}")


def sign_in_page(target: str, error: str = "") -> str:
    """Asks for a session token, to go on at a path."""
    alert = f'<p role="alert">{shown(error)}</p>' if error else ""
    return document(
        "Sign in",
        f'<h1>Sign in</h1>{alert}<form method="post" action="/login">'
        f'<input type="hidden" name="next" value="{escape(target)}">'
        '<label>Session token<input type="password" name="token" autocomplete="current-password" required autofocus></label>'
        "<button>Sign in</button></form>"
        "<p>The first administrator's is in the server's state directory, in <code>admin-token</code>; an administrator creates"
        " one for you with <code>coderctl users create</code>.</p>",
    )


def document(title: str, body: str) -> str:
    """Returns a whole document around content that is escaped already."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{shown(title)}</title><style>{STYLE}</style>{body}</html>"
    )
