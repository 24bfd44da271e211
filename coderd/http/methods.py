"""The request methods that are served; all others are refused with 405. Pure.

CONNECT makes a connection a tunnel, after which an HTTP parser waits for ever (RFC 9110 §9.3.6); TRACE sends
the request back, secrets included (§9.3.8); of an unknown method it is not known whether it has a body or may
be repeated.
"""

from collections.abc import Iterable
from typing import Final

METHODS: Final = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
    *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"),
)
"""Methods of HTTP (RFC 9110, RFC 5789) and of WebDAV (RFC 4918), by which workspaces share folders."""
ALLOW: Final = ", ".join(METHODS).encode()


def is_framing_in_doubt(http_version: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Returns whether two parsers may disagree about where a message ends (request smuggling, RFC 9112 §6.1).

    That is so with both Transfer-Encoding and Content-Length, or with Transfer-Encoding before HTTP/1.1.

    Args:
        http_version: the message's, such as ``1.1``.
        headers: names, in lower case, and values.
    """
    names = {name for name, _ in headers}
    return b"transfer-encoding" in names and (b"content-length" in names or http_version < "1.1")
