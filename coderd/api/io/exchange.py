"""One request to the API and its answer, bounded; a token goes to the server that it was given with alone.

No redirect is followed, every answer is bounded in size and time, and whatever goes wrong is a ``UserError``.
"""

import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

import httpx

from coderd.api.messages import (
    MAX_ANSWER,
    MAX_LIST,
    PREFIX,
    ApiMessage,
    ErrorBody,
    ListPage,
    encode_message,
    parse_message,
)
from coderd.config.url import ServerUrl, parse_server_url
from coderd.http.pinned import BadAuthorities, server_context, why_untrusted
from coderd.model.errors import Exit, MalformedPacket, UserError

TIMEOUT = httpx.Timeout(10.0)

MAX_PAGES = 10_000
"""Pages of a list that a client reads."""

M = TypeVar("M", bound=ApiMessage)
L = TypeVar("L", bound=ListPage)

_EXITS: dict[int, Exit] = {
    HTTPStatus.UNAUTHORIZED: Exit.REFUSED,
    HTTPStatus.FORBIDDEN: Exit.REFUSED,
}


class Exchange:
    """One server and one token, to which requests are sent; blocking.

    Args:
        url: the server's access URL.
        token: a session token; empty for an unauthenticated client.
        tls: trust for https; the URL's when None.
    """

    def __init__(self, url: str, token: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        self._url = parse_server_url(url)
        self._token = token
        self._tls = tls

    def ask(self, kind: type[M], method: str, path: str, body: ApiMessage | None = None) -> M:
        """Sends a request, and returns its answer as a message of this kind.

        Args:
            kind: type of the answer.
            method: of HTTP.
            path: below ``PREFIX``, quoted, with the query.
            body: what to send; None = nothing.

        Raises:
            UserError: the server refuses, cannot be reached, is not trusted, or its answer is invalid.
        """
        try:
            request = _build_request(self._url, self._token, method, path, body)
            with (
                httpx.Client(timeout=TIMEOUT, verify=_trust(self._url, self._tls)) as client,
                client.stream(
                    request.method, request.url, headers=request.headers, content=request.content
                ) as response,
            ):
                data = bytearray()
                for chunk in response.iter_raw():
                    _append(data, chunk)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            if why := why_untrusted(error):
                raise _not_trusted(self._url, why) from None
            raise _unreachable(self._url, error) from None
        except BadAuthorities as error:
            raise UserError(str(error), exit_code=Exit.USAGE, code="bad_ca_file") from None
        return _parse_answer(kind, response.status_code, bytes(data), path)

    def pages(self, kind: type[L], path: str) -> Iterator[L]:
        """Yields all pages of a list; a server of before pages sends all in one, within ``MAX_ANSWER``.

        Raises:
            UserError: as ``ask``, or the list does not end.
        """
        after = ""
        for _ in range(MAX_PAGES):
            query = f"limit={MAX_LIST}" + (f"&after={quote(after, safe='')}" if after else "")
            page = self.ask(kind, "GET", f"{path}{'&' if '?' in path else '?'}{query}")
            yield page
            if page.next is None:
                return
            if page.next <= after:
                break
            after = page.next
        raise _not_understood("its list does not end")


def _build_request(
    url: ServerUrl, token: str, method: str, path: str, body: ApiMessage | None
) -> httpx.Request:
    """Builds a request. Raises UserError for a token that no header can carry."""
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise UserError(
                "the token is invalid: it contains characters that no token has",
                exit_code=Exit.REFUSED,
                hint="Copy it again, without spaces or line breaks.",
                code="unauthorized",
            )
        headers["authorization"] = f"Bearer {token}"
    content = b"" if body is None else encode_message(body)
    if body is not None:
        headers["content-type"] = "application/json"
    return httpx.Request(method, f"{url}{PREFIX}{path}", headers=headers, content=content)


def _trust(url: ServerUrl, tls: ssl.SSLContext | None) -> ssl.SSLContext:
    """Returns what to trust: ``tls`` where it was given, else what the URL says."""
    if tls is not None:
        return tls
    # Reading the system's certificates takes longer than a command, so http gets a context without any.
    return server_context(url) if url.is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _append(data: bytearray, chunk: bytes) -> None:
    """Appends to an answer. Raises UserError above ``MAX_ANSWER``."""
    data += chunk
    if len(data) > MAX_ANSWER:
        raise _not_understood("it is too long")


def _parse_answer(kind: type[M], status: int, data: bytes, path: str) -> M:
    """Parses an answer. Raises UserError with the server's refusal, or if it is invalid."""
    try:
        if status < 300:
            return parse_message(kind, data)
        error = parse_message(ErrorBody, data)
    except MalformedPacket:
        raise _not_understood(f"its status is {status}") from None
    exit_code = _EXITS.get(status, Exit.FAILED)
    if error.code == "not_found" and path.startswith("/workspaces/"):
        exit_code = Exit.NO_SUCH_WORKSPACE
    raise UserError(error.message, exit_code=exit_code, hint=error.hint, code=error.code)


def _not_understood(why: str) -> UserError:
    return UserError(
        f"the server's answer cannot be understood: {why}",
        hint="Check that the URL is that of a coderd server.",
        code="bad_answer",
    )


def _not_trusted(url: ServerUrl, why: str) -> UserError:
    return UserError(
        f"the server at {url} is not trusted: {why}",
        exit_code=Exit.REFUSED,
        hint="Nothing was sent. The server prints its certificate's pin when it starts: give it with --pin."
        " A private authority's file goes with --ca-file.",
        code="wrong_certificate",
    )


def _unreachable(url: ServerUrl, error: Exception) -> UserError:
    why = "it does not answer in time" if isinstance(error, httpx.TimeoutException) else str(error)
    return UserError(
        f"the server at {url} cannot be reached: {why or type(error).__name__}",
        exit_code=Exit.UNREACHABLE,
        hint="Check the URL, and that the server runs.",
        code="unreachable",
    )
