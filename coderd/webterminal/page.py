"""The page with a terminal in it. Pure.

xterm.js makes style sheets as it runs. A nonce, new for each page, lets those in that our script has made,
and nothing else: there is no ``unsafe-inline``, and no script but the server's own files.
"""

from base64 import b64encode
from html import escape
from typing import Final, NamedTuple

from coderd.browser.pages import shown
from coderd.browser.policy import NO_FRAMES, exact
from coderd.config.url import ServerUrl

NONCE_SIZE: Final = 16


class Problem(NamedTuple):
    """Why there is no terminal: a sentence, and what to do next."""

    message: str
    hint: str = ""


SCRIPTS: Final = ("/static/xterm.js", "/static/xterm-addon-fit.js", "/static/terminal.js")
STYLES: Final = ("/static/xterm.css", "/static/terminal.css")


def policy(url: ServerUrl, nonce: str, socket: str = "") -> str:
    """Returns the Content-Security-Policy of the page.

    Args:
        url: the server's.
        nonce: of the styles that our script makes.
        socket: the path of the terminal's WebSocket; empty for a page without one.
    """
    sockets = exact(url, socket).replace("http", "ws", 1) if socket else "'none'"  # https becomes wss
    return (
        f"default-src 'none'; script-src {exact(url, *SCRIPTS)}; style-src {exact(url, *STYLES)} 'nonce-{nonce}';"
        f" connect-src {sockets}; img-src data:; form-action 'none'; {NO_FRAMES}"
    )


def make_nonce(random: bytes) -> str:
    """Encodes random bytes as a nonce."""
    return b64encode(random).decode()


def terminal_page(name: str, nonce: str) -> str:
    """Returns the page with a terminal of the workspace with this name."""
    named = shown(name)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1,interactive-widget=resizes-content">'
        f'<link rel="icon" href="data:,"><meta name="style-nonce" content="{escape(nonce)}"><title>{named} · terminal</title>'
        + "".join(f'<link rel="stylesheet" href="{path}">' for path in STYLES)
        + "".join(f'<script defer src="{path}"></script>' for path in SCRIPTS)
        + f'<header><a href="/" title="All workspaces">coderd</a><h1>{named}</h1>'
        '<span id="path" title="How the server reaches the workspace"></span>'
        '<span id="latency" title="Round trip from this page to the shell"></span>'
        '<span id="state" role="status">connecting</span>'
        '<button id="again" hidden>New shell</button><button id="end" title="Ends the shell and all that runs in it">End</button></header>'
        '<p id="notice" role="alert" hidden></p><main id="terminal"></main>'
        "<noscript><p>A terminal needs JavaScript. <code>coderctl terminal</code> does not.</p></noscript></html>"
    )


def problem_page(title: str, problem: Problem) -> str:
    """Returns the page that says why there is no terminal."""
    hint = f"<p>{shown(problem.hint)}</p>" if problem.hint else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{shown(title)} · terminal</title><link rel="stylesheet" href="/static/terminal.css">'
        f'<header><a href="/">coderd</a><h1>{shown(title)}</h1></header>'
        f"<article><h2>No terminal</h2><p>{shown(problem.message)}</p>{hint}</article></html>"
    )
