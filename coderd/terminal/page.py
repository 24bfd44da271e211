"""The page with a terminal in it. Pure.

xterm.js makes style sheets as it runs. A nonce, new for each page, lets those in that our script has made, and nothing else:
there is no ``unsafe-inline``, and no script but the server's own files.
"""

from base64 import b64encode
from html import escape
from typing import Final, NamedTuple

NONCE_SIZE: Final = 16


class Problem(NamedTuple):
    """Why there is no terminal: a sentence, and what to do next."""

    message: str
    hint: str = ""


def policy(nonce: str) -> str:
    """The Content-Security-Policy of the page."""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; connect-src 'self'; img-src 'self' data:;"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


def make_nonce(random: bytes) -> str:
    """A nonce of random bytes."""
    return b64encode(random).decode()


def terminal_page(name: str, nonce: str) -> str:
    """A terminal of the workspace with this name."""
    shown = escape(name)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1,interactive-widget=resizes-content">'
        f'<link rel="icon" href="data:,"><meta name="style-nonce" content="{escape(nonce)}"><title>{shown} · terminal</title>'
        '<link rel="stylesheet" href="/static/xterm.css"><link rel="stylesheet" href="/static/terminal.css">'
        '<script defer src="/static/xterm.js"></script><script defer src="/static/xterm-addon-fit.js"></script>'
        '<script defer src="/static/terminal.js"></script>'
        f'<header><a href="/" title="All workspaces">coderd</a><h1>{shown}</h1>'
        '<span id="path" title="By which way the server reaches the workspace"></span>'
        '<span id="latency" title="From this page to the shell and back"></span>'
        '<span id="state" role="status">connecting</span>'
        '<button id="again" hidden>New shell</button><button id="end" title="Ends the shell and all that runs in it">End</button></header>'
        '<p id="notice" role="alert" hidden></p><main id="terminal"></main>'
        "<noscript><p>A terminal needs JavaScript. <code>coderctl terminal</code> does not.</p></noscript></html>"
    )


def problem_page(title: str, problem: Problem) -> str:
    """Why there is no terminal."""
    hint = f"<p>{escape(problem.hint)}</p>" if problem.hint else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape(title)} · terminal</title><link rel="stylesheet" href="/static/terminal.css">'
        f'<header><a href="/">coderd</a><h1>{escape(title)}</h1></header>'
        f"<article><h2>No terminal</h2><p>{escape(problem.message)}</p>{hint}</article></html>"
    )
