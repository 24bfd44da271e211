"""Opening of a WebSocket to an app (RFC 6455 §4): the request's headers, and a check of its answer. Pure."""

from typing import Final

from wsproto.utilities import generate_accept_token

from coderd.apps.exchange import BadAnswer, Switched
from coderd.apps.headers import Headers
from coderd.browser.requests import header

_FRAMING: Final = (b"content-length", b"transfer-encoding")


def opening_headers(passed: Headers, nonce: bytes, subprotocols: list[str]) -> Headers:
    """Returns the headers of a request that opens a WebSocket (RFC 6455 §4.1).

    Args:
        passed: the header fields of the browser's request that are passed on.
        nonce: the key, in base64.
        subprotocols: that the browser offers.
    """
    kept = [
        (name, value)
        for name, value in passed
        if not name.startswith(b"sec-websocket-") and name not in _FRAMING
    ]
    ours = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
    ours += [(b"sec-websocket-key", nonce), (b"sec-websocket-version", b"13")]
    if subprotocols:
        ours.append((b"sec-websocket-protocol", ", ".join(subprotocols).encode("latin-1")))
    return kept + ours


def read_acceptance(answer: Switched, nonce: bytes, subprotocols: list[str]) -> str | None:
    """Returns the subprotocol that the app chose, or None.

    Raises BadAnswer if it did not accept the request.
    """
    upgrades = [token.strip().lower() for token in header(answer.headers, b"connection").split(",")]
    if header(answer.headers, b"upgrade").lower() != "websocket" or "upgrade" not in upgrades:
        raise BadAnswer("the app switched to another protocol")
    if header(answer.headers, b"sec-websocket-accept").encode("latin-1") != generate_accept_token(nonce):
        raise BadAnswer("the app's answer is to another request")
    if header(answer.headers, b"sec-websocket-extensions"):
        raise BadAnswer("the app chose an extension that was not offered")
    subprotocol = header(answer.headers, b"sec-websocket-protocol") or None
    if subprotocol is not None and subprotocol not in subprotocols:
        raise BadAnswer("the app chose a subprotocol that was not offered")
    return subprotocol
