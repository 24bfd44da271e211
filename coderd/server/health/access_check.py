"""Check of the access URL: the server requests itself through it as a node would.

```
 this process --> name, proxy, firewall, load balancer --> this process?
   GET /healthz            the answer bears this process's mark: the right host
   WebSocket /healthz/ws   a message comes back: coordination and terminals will work
   Upgrade: DERP /derp     101: relaying works; else the WebSocket that nodes then try
```
A middlebox that answers instead is named by its Server and Via fields; the server itself sends neither.
"""

import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import trio

from coderd.config.url import ServerUrl
from coderd.derp.io.websocket import WebSocketStream
from coderd.http import ws_handshake
from coderd.http.dialer import dial, read_response_head
from coderd.http.head import ResponseHead
from coderd.http.pinned import server_context, why_untrusted
from coderd.model import limits
from coderd.model.errors import MalformedPacket
from coderd.server.health.findings import AccessTrials, Trial

INSTANCE_FIELD: Final = "coderd-instance"
"""Name of the response field that bears the mark of the process."""
HEALTHZ: Final = "/healthz"
ECHO: Final = "/healthz/ws"
MAX_ECHO: Final = limits.MAX_ECHO
"""Size in bytes of the one message that is sent back."""
TRIAL_TIMEOUT: Final = 8.0
"""Seconds that each trial may take."""
_MAX_NAME: Final = 80


@dataclass(frozen=True, slots=True)
class _Answered:
    """Head of a response, and the stream behind it."""

    head: ResponseHead
    stream: trio.abc.Stream
    leftover: bytes


class AccessCheck:
    """Check of one server's access URL.

    Args:
        url: the access URL, with its pin if the server made the certificate itself.
        instance: the mark of this process.
        has_relay: whether the server relays; False skips the DERP upgrade.
        unix_clock: wall-clock seconds.
    """

    def __init__(
        self, url: ServerUrl, instance: str, *, has_relay: bool, unix_clock: Callable[[], float]
    ) -> None:
        self._url = url
        self._instance = instance
        self._has_relay = has_relay
        self._unix_clock = unix_clock

    async def run(self) -> AccessTrials:
        """Runs all trials and returns their results.

        Without an HTTP answer, or with one from another process, the WebSocket and DERP trials are skipped
        (None).
        """
        answer, http = await self._try_http()
        at = self._unix_clock()
        if answer is None:
            return AccessTrials(at=at, http=http)
        skew = _skew(answer, at)
        if answer.field(INSTANCE_FIELD) != self._instance:
            other = Trial(middlebox=middlebox(answer))
            return AccessTrials(at=at, http=other, is_other=True, skew=skew)
        websocket = await self._try(self._echo)
        derp = await self._try(self._upgrade_to_derp) if self._has_relay else None
        fallback = await self._try(self._derp_in_websocket) if derp is not None and derp.error else None
        return AccessTrials(
            at=at, http=http, websocket=websocket, derp=derp, derp_websocket=fallback, skew=skew
        )

    async def _try_http(self) -> tuple[ResponseHead | None, Trial]:
        """Requests /healthz; returns the response's head, None without one, and the trial."""
        found: list[ResponseHead] = []

        async def ask() -> Trial:
            async with self._ask(HEALTHZ) as answered:
                found.append(answered.head)
            return Trial(middlebox=middlebox(answered.head))

        trial = await self._try(ask)
        return (found[0] if found else None), trial

    async def _try(self, trial: Callable[[], Awaitable[Trial]]) -> Trial:
        """Runs a trial within ``TRIAL_TIMEOUT``; returns its failure as a Trial with an error."""
        try:
            with trio.fail_after(TRIAL_TIMEOUT):
                return await trial()
        except trio.TooSlowError:
            return Trial(f"no answer within {TRIAL_TIMEOUT:.0f} s")
        except MalformedPacket as error:
            return Trial(str(error))
        except (OSError, trio.BrokenResourceError) as error:
            return Trial(_words(error))

    async def _echo(self) -> Trial:
        """Opens a WebSocket and checks that a message of 16 random bytes comes back."""
        key = ws_handshake.make_key(os.urandom)
        async with self._ask(ECHO, ws_handshake.request_fields(key)) as answered:
            if (refused := _refusal(answered.head, "websocket")) is not None:
                return refused
            if answered.head.field("sec-websocket-accept") != ws_handshake.accept_proof(key):
                return Trial("the answer to the upgrade is not that of a WebSocket", middlebox(answered.head))
            stream = WebSocketStream(answered.stream, is_client=True, leftover=answered.leftover)
            message = os.urandom(16)
            await stream.send_all(message)
            if await stream.receive_some() != message:
                return Trial("the upgrade succeeds, but messages do not pass", middlebox(answered.head))
        return Trial(middlebox=middlebox(answered.head))

    async def _upgrade_to_derp(self) -> Trial:
        return await self._upgrade(["Connection: Upgrade", "Upgrade: DERP"], "derp")

    async def _derp_in_websocket(self) -> Trial:
        fields = [
            *ws_handshake.request_fields(ws_handshake.make_key(os.urandom)),
            "Sec-WebSocket-Protocol: derp",
        ]
        return await self._upgrade(fields, "websocket")

    async def _upgrade(self, fields: list[str], protocol: str) -> Trial:
        """Requests an upgrade of /derp to a protocol; returns the trial."""
        async with self._ask("/derp", fields) as answered:
            refused = _refusal(answered.head, protocol)
            return refused if refused is not None else Trial(middlebox=middlebox(answered.head))

    @asynccontextmanager
    async def _ask(self, path: str, fields: list[str] | None = None) -> AsyncIterator[_Answered]:
        """Sends one GET on a new connection and yields the response; closes the connection afterwards.

        Raises:
            OSError: the server cannot be reached.
            trio.BrokenResourceError: the connection broke, or TLS failed.
            MalformedPacket: the response is not valid HTTP.
        """
        tls: ssl.SSLContext | None = server_context(self._url) if self._url.is_tls else None
        stream = await dial(self._url.host, self._url.port, tls=tls)
        try:
            lines = [
                f"GET {path} HTTP/1.1",
                f"Host: {self._url.authority}",
                "User-Agent: coderd",
                *(fields or ["Connection: close"]),
            ]
            await stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace"))
            head, leftover = await read_response_head(stream)
            yield _Answered(head, stream, leftover)
        finally:
            await trio.aclose_forcefully(stream)


def middlebox(head: ResponseHead) -> str:
    """Returns the Server and Via fields of a response, printable, at most 80 characters; empty without."""
    names = [head.field("server"), *(f"via {via}" for via in [head.field("via")] if via)]
    text = " ".join(name for name in names if name)
    return "".join(character for character in text if character.isprintable())[:_MAX_NAME]


def _refusal(head: ResponseHead, protocol: str) -> Trial | None:
    """Returns a failed trial if the response does not upgrade to ``protocol``, else None."""
    if head.status != 101:
        return Trial(f"the upgrade is answered with status {head.status}", middlebox(head))
    if head.field("upgrade").lower() != protocol:
        return Trial("the upgrade leads to another protocol", middlebox(head))
    return None


def _skew(head: ResponseHead, unix_now: float) -> float | None:
    """Returns the seconds by which the response's Date is ahead of our clock; None without a valid Date."""
    try:
        return parsedate_to_datetime(head.field("date")).timestamp() - unix_now
    except (TypeError, ValueError, OverflowError):
        return None


def _words(error: BaseException) -> str:
    """Returns why a connection failed: the TLS verdict, the system's text or the error's type."""
    if untrusted := why_untrusted(error):
        return untrusted
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) and error.__cause__ else error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
