"""Header fields that are passed on between a browser and an app. Pure.

Framing is never passed on: both ends are parsed and written anew, so that two parsers cannot disagree about
where a message ends. Fields that concern one connection, claims about the client by the client, and the
server's own fields are removed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from coderd.browser.requests import SESSION_COOKIES, header

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Names in lower case, in order, repeated ones too."""

APP_COOKIES: Final = ("coderd_app", "__Host-coderd_app")
"""The pass of one app's host."""
SANDBOX: Final = b"sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"
"""Gives a document an origin of its own: it is on the dashboard's host, and must not act as the dashboard."""

_OURS: Final = frozenset(name.lower().encode() for name in (*SESSION_COOKIES, *APP_COOKIES))
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
_NOT_THE_CLIENTS: Final = frozenset(
    {
        b"expect",
        b"forwarded",
        b"proxy",
        b"client-ip",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-originating-ip",
        b"x-real-ip",
        b"x-remote-addr",
        b"x-remote-ip",
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"x-azure-clientip",
        b"x-envoy-external-address",
        b"client-cert",
        b"client-cert-chain",
        b"remote-user",
        b"x-authenticated-user",
        b"x-remote-user",
        b"x-webauth-user",
        b"x-host",
        b"x-original-host",
        b"x-original-url",
        b"x-rewrite-url",
    }
)
"""Fields by which a proxy in front of an app tells it about the client; the client's own are removed.

``Proxy`` would become the variable ``HTTP_PROXY`` of a CGI program, by which it dials (CVE-2016-5385).
"""
_NOT_THE_CLIENTS_PREFIXES: Final = (
    b"x-forwarded",
    b"x-auth-request-",
    b"x-ssl-client-",
    b"ssl-client-",
    b"cf-access-",
    b"tailscale-",
    b"x-amzn-oidc-",
    b"x-goog-authenticated-user-",
)
_MEANT_FOR_US: Final = frozenset({b"authorization", b"content-length", b"content-type", b"cookie", b"host"})
_NOT_IN_A_VARIABLE: Final = re.compile(rb"[^a-z0-9]")
_NOT_ON_A_SHARED_HOST: Final = frozenset(
    {b"clear-site-data", b"service-worker-allowed", b"strict-transport-security", b"nel", b"report-to"}
)
"""They speak for a whole host, and in the path form that is the dashboard's."""
_OUR_TOKEN: Final = b"cdr"


@dataclass(frozen=True, slots=True)
class Hop:
    """How one request came: client, scheme and path prefix."""

    client: str
    """The browser's IP address."""
    scheme: str
    """By which the browser reached the server."""
    prefix: str = ""
    """In the path form, what the app does not see of its paths; no slash at the end."""
    is_sandboxed: bool = False


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Returns the token of ours that a request carries; empty if there is none."""
    value = header(headers, b"authorization")
    return value.partition(" ")[2].strip() if _is_our_token(value.encode("latin-1")) else ""


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Returns whether a request has a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" 0"))
        for name, value in headers
    )


def request_headers(headers: Headers, hop: Hop) -> Headers:
    """Returns the headers of a browser's request that an app gets, framing left out."""
    kept = [(name, value) for name, value in _end_to_end(headers) if not _is_edges_own(name, value)]
    passed: Headers = []
    for name, value in kept:
        if name != b"cookie":
            passed.append((name, value))
        elif others := _others_cookies(value):
            passed.append((name, others))
    if _is_chunked(headers):
        passed.append((b"transfer-encoding", b"chunked"))
    passed += [(b"x-forwarded-for", hop.client.encode()), (b"x-forwarded-proto", hop.scheme.encode())]
    if host := header(headers, b"host"):
        passed.append((b"x-forwarded-host", host.encode("latin-1")))
    if hop.prefix:
        passed.append((b"x-forwarded-prefix", hop.prefix.encode()))
    return passed


def answer_headers(headers: Headers, hop: Hop) -> Headers:
    """Returns the headers of an app's answer that a browser gets, framing left out."""
    passed: Headers = []
    for name, value in _end_to_end(headers):
        if name in (b"alt-svc", b"date", b"set-cookie2") or (hop.prefix and name in _NOT_ON_A_SHARED_HOST):
            continue
        if name == b"set-cookie":
            if rewritten := _rewrite_cookie(value, hop.prefix):
                passed.append((name, rewritten))
        elif name == b"location" and hop.prefix and value[:1] == b"/" and value[:2] not in (b"//", b"/\\"):
            passed.append((name, hop.prefix.encode() + value))
        else:
            passed.append((name, value))
    if hop.is_sandboxed:
        passed.append((b"content-security-policy", SANDBOX))
    return passed


def _end_to_end(headers: Headers) -> Headers:
    named = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    gone = (_HOP_BY_HOP | named) - {b"content-length", b"host"}
    return [(name, value) for name, value in headers if name not in gone and not _is_disguised(name, gone)]


def _is_disguised(name: bytes, gone: frozenset[bytes]) -> bool:
    """Returns whether a name becomes the CGI variable of a field that is removed or written here.

    ``X_Forwarded_For`` and ``X-Forwarded-For`` are both ``HTTP_X_FORWARDED_FOR`` to CGI and WSGI (RFC 3875
    §4.1.18); browsers send only dashes.
    """
    plain = _NOT_IN_A_VARIABLE.sub(b"-", name)
    return plain != name and (
        plain in gone
        or plain in _MEANT_FOR_US
        or _is_said_of_the_client(plain)
        or plain.startswith((b"sec-", b"content-"))
    )


def _is_said_of_the_client(name: bytes) -> bool:
    return name in _NOT_THE_CLIENTS or name.startswith(_NOT_THE_CLIENTS_PREFIXES)


def _is_edges_own(name: bytes, value: bytes) -> bool:
    return _is_said_of_the_client(name) or (name == b"authorization" and _is_our_token(value))


def _is_our_token(value: bytes) -> bool:
    scheme, _, token = value.partition(b" ")
    return scheme.lower() == b"bearer" and token.strip().startswith(_OUR_TOKEN)


def _is_chunked(headers: Headers) -> bool:
    names = {name for name, _ in headers}
    return b"transfer-encoding" in names and b"content-length" not in names


def _others_cookies(value: bytes) -> bytes:
    pairs = [pair.strip() for pair in value.split(b";")]
    return b"; ".join(pair for pair in pairs if pair and pair.partition(b"=")[0].strip().lower() not in _OURS)


def _rewrite_cookie(value: bytes, prefix: str) -> bytes:
    """Returns a cookie restricted to the app's own host or prefix.

    Empty if it is invalid or has a name of the server's.
    """
    pair, *attributes = (part.strip() for part in value.split(b";"))
    name, has_name, _ = pair.partition(b"=")
    if not has_name or not name.strip() or name.strip().lower() in _OURS:
        return b""
    kept = [part for part in attributes if _attribute(part) not in (b"domain", b"path")]
    paths = [part.partition(b"=")[2].strip() for part in attributes if _attribute(part) == b"path"]
    path = paths[-1] if paths and paths[-1].startswith(b"/") else b""
    if prefix:
        path = prefix.encode() + (path or b"/")
    return b"; ".join([pair, *kept, *([b"Path=" + path] if path else [])])


def _attribute(part: bytes) -> bytes:
    return part.partition(b"=")[0].strip().lower()
