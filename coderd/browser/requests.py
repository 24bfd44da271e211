"""What a request of a browser says, and for which of them its cookie counts. Pure."""

import hmac
from collections.abc import Iterable
from typing import Final, TypeAlias

from coderd.model.sealed import Seal

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
"""Names in lower case, in order, repeated ones too."""

SESSION_COOKIES: Final = ("coderd_session", "__Host-coderd_session")
"""Cookies of a browser's session with the server.

The first is for http, the second for https, where no app's host can set or shadow it.
"""
FORM_TOKEN: Final = "csrf"
"""The hidden field of every form that changes something."""

_FORM: Final = b"coderd form"
_OWN: Final = frozenset({"same-origin", "none"})


def cookie(headers: Headers, name: str) -> str:
    """Returns the first cookie of a name; empty if there is none."""
    wanted = name.encode()
    for field, value in headers:
        for pair in value.split(b";") if field == b"cookie" else ():
            key, _, text = pair.strip().partition(b"=")
            if key == wanted:
                return text.decode("latin-1")
    return ""


def header(headers: Headers, name: bytes) -> str:
    """Returns the first value of a header; empty if it is absent."""
    return next((value.decode("latin-1") for field, value in headers if field == name), "")


def is_own_request(method: str, origin: str, fetch_site: str, fetch_mode: str, own_origin: str) -> bool:
    """Returns whether a cookie counts for a request: the server's own page made it.

    Other apps live on the same site, so that SameSite keeps none of their requests away: a page of one must
    not read from, post to or open a WebSocket with another app in the name of the user who views it.

    Args:
        method: of the request.
        origin: the Origin header; empty where it is absent.
        fetch_site: Sec-Fetch-Site, empty where it is absent.
        fetch_mode: Sec-Fetch-Mode, likewise.
        own_origin: the page's or app's.
    """
    if origin and origin != own_origin:
        return False
    if not fetch_site or fetch_site in _OWN:
        return True
    return fetch_mode == "navigate" and method in ("GET", "HEAD")


def comes_from(headers: Headers, method: str, own_origin: str) -> bool:
    """Returns whether a request's headers say that a page of this origin made it."""
    fields = [(name, value) for name, value in headers]
    return is_own_request(
        method,
        header(fields, b"origin"),
        header(fields, b"sec-fetch-site"),
        header(fields, b"sec-fetch-mode"),
        own_origin,
    )


def form_token(secret: bytes, session_hash: bytes) -> str:
    """Returns the token that proves that a form was made for this session."""
    return Seal(secret, _FORM).mac(session_hash).hex()


def is_form_token(secret: bytes, session_hash: bytes, text: str) -> bool:
    """Returns whether a form bears its session's token, compared in constant time."""
    return hmac.compare_digest(form_token(secret, session_hash).encode(), text.encode("utf-8", "replace"))
