"""Which request methods are ordinary HTTP, read alike by every hop; the others are refused. Pure.

CONNECT turns a connection into something else, after which an HTTP parser waits for ever; TRACE sends back what it was told,
secrets too; of an unknown method nobody knows whether it has a body or may be repeated.
"""

from collections.abc import Iterable
from typing import Final

METHODS: Final = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
    *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"),
)
"""The second line is WebDAV (RFC 4918): folders of a workspace are shared by it, and its methods are ordinary requests with bodies."""
ALLOW: Final = ", ".join(METHODS).encode()


def is_framing_in_doubt(http_version: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether two readers of a message may disagree about where it ends (RFC 9112 §6.1): it says so twice, or too early.

    Args:
        http_version: the message's, such as ``1.1``.
        headers: names in lower case.
    """
    names = {name for name, _ in headers}
    return b"transfer-encoding" in names and (b"content-length" in names or http_version < "1.1")
