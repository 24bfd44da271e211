"""Dials TCP, directly or through the environment's HTTP proxy, and TLS: for relay links and WebSockets."""

import base64
import errno
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import trio

from coderd.http.head import ResponseHead, find_head_end, parse_response_head
from coderd.http.tls_stream import TlsStream
from coderd.model.addresses import is_this_machine
from coderd.model.errors import MalformedPacket

MAX_RESPONSE_HEAD: Final = 16 * 1024
_READ_SIZE: Final = 4096
_PROTOCOL: Final = b"HTTP/1."
_SCHEME_PORTS: Final = {"http": 80, "https": 443}
_UNMARKED_DELAY: Final = 0.5
"""Seconds that a marked connection has before an unmarked one is tried as well."""
_marks: Final = trio.lowlevel.RunVar("marks of connections", (0, 0))
"""SO_MARK of IPv4 and of IPv6 connections, for the whole process; 0 is no mark."""


class Target(NamedTuple):
    """An address to dial by TCP: an IP literal, or a name that is resolved in ``family``, and a port."""

    family: int
    host: str
    port: int
    may_be_here: bool = True
    """Whether addresses of this machine may be dialled; False for names that come from outside."""


async def dial(
    host: str, port: int, *, tls: ssl.SSLContext | None = None, server_name: str | None = None
) -> trio.abc.Stream:
    """Connects to a host: TCP, or the environment's proxy for it, and then TLS if a context is given.

    Args:
        host: a name or an IP literal.
        port: the TCP port.
        tls: the context of the TLS handshake; None for plain TCP.
        server_name: the name that TLS asks for and checks, ``host`` by default.

    There is no timeout: the caller sets the deadline.

    Raises: OSError (ssl.SSLError among them), also where the stream breaks.
    """
    return await dial_first(
        [Target(trio.socket.AF_UNSPEC, host, port)], host=host, port=port, tls=tls, server_name=server_name
    )


async def dial_first(
    targets: Sequence[Target],
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    tcp_timeout: float = float("inf"),
) -> trio.abc.Stream:
    """Connects to a host by the first of several targets to answer, or the environment's proxy; then TLS.

    Args:
        targets: addresses of the host, dialled at once; a proxy is given ``host`` and ``port`` instead.
        host: a name or an IP literal.
        port: the TCP port.
        tls: the context of the TLS handshake; None for plain TCP.
        server_name: the name that TLS asks for and checks, ``host`` by default.
        tcp_timeout: seconds for the TCP connection or the proxy's answer, without TLS.

    Raises: OSError: TimeoutError and ssl.SSLError among them.
    """
    proxy = proxy_for(host, is_tls=tls is not None)
    stream: trio.abc.Stream | None = None
    with trio.move_on_after(tcp_timeout):
        stream = await (race(targets) if proxy is None else _connect_through(proxy, host, port))
    if stream is None:
        raise TimeoutError(f"{host}:{port} did not answer within {tcp_timeout:g} s")
    if tls is None:
        return stream
    return await start_tls(stream, tls, server_name or host)


def proxy_for(host: str, *, is_tls: bool) -> SplitResult | None:
    """Returns the environment's HTTP proxy for a host, or None.

    The variable is ``https_proxy`` with TLS, else ``http_proxy``; ``all_proxy`` where that is not set.
    Loopback hosts and those in ``no_proxy`` have none; a proxy that is not HTTP (SOCKS) is ignored.

    Raises: OSError if the variable's value is not a URL.
    """
    proxies = getproxies()
    url = proxies.get("https" if is_tls else "http") or proxies.get("all")
    if not url or _is_loopback(host) or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        is_usable = parts.scheme in _SCHEME_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the value may contain a password, so it is not in the message
        raise OSError("the proxy in the environment is not a valid URL") from None
    return parts if is_usable else None


def mark_connections(v4: int, v6: int) -> None:
    """Sets the marks (SO_MARK) of the connections that this process dials from now on.

    A marked connection avoids another tunnel's routes. If it is not up within half a second, an unmarked one
    is dialled as well, as the server may be inside that tunnel.

    Args:
        v4: for IPv4; 0 for none.
        v6: for IPv6; 0 for none.
    """
    _marks.set((v4, v6))


async def race(targets: Sequence[Target]) -> trio.SocketStream:
    """Dials all targets at once and returns the first connection; the others are closed.

    Raises: OSError, the first target's, when all fail or there is none.
    """
    if not targets:
        raise OSError("no address to dial")
    return await _first([partial(_dial_target, target) for target in targets])


async def _first(attempts: Sequence[Callable[[], Awaitable[trio.SocketStream]]]) -> trio.SocketStream:
    """Makes all attempts at once and returns the first to succeed.

    Raises the first attempt's OSError if all fail.
    """
    winner: trio.SocketStream | None = None
    errors: dict[int, OSError] = {}

    async def run(index: int, attempt: Callable[[], Awaitable[trio.SocketStream]]) -> None:
        nonlocal winner
        try:
            stream = await attempt()
        except OSError as error:
            errors[index] = error
            return
        if winner is None:
            winner = stream
            nursery.cancel_scope.cancel()
        else:
            stream.socket.close()

    try:
        async with trio.open_nursery() as nursery:
            for index, attempt in enumerate(attempts):
                nursery.start_soon(run, index, attempt)
    except BaseException:  # cancelled after one attempt has won
        if winner is not None:
            winner.socket.close()
        raise
    if winner is None:
        raise _in_plain_words(errors[min(errors)])
    return winner


def _in_plain_words(error: OSError) -> OSError:
    """Returns the kernel's error alone: trio's message has the address too, as the repr of a tuple."""
    leaf: BaseException | None = error
    while isinstance(leaf, BaseExceptionGroup) or (isinstance(leaf, OSError) and leaf.errno is None):
        leaf = leaf.exceptions[0] if isinstance(leaf, BaseExceptionGroup) else leaf.__cause__
    if not isinstance(leaf, OSError) or leaf.errno is None or leaf.errno not in errno.errorcode:
        return error  # getaddrinfo has error numbers of its own
    return OSError(leaf.errno, os.strerror(leaf.errno))


async def start_tls(stream: trio.abc.Stream, context: ssl.SSLContext, server_name: str) -> TlsStream:
    """Does the TLS handshake of a client and returns the encrypted stream.

    Raises OSError, the stream closed.
    """
    try:
        secured = TlsStream(stream, context, server_hostname=server_name)
    except (ValueError, TypeError):
        await trio.aclose_forcefully(stream)
        raise OSError(f"{server_name} is not a valid host name") from None
    try:
        await secured.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError):
            raise _cause(error, "the TLS handshake failed") from error
        raise
    return secured


async def read_response_head(stream: trio.abc.Stream) -> tuple[ResponseHead, bytes]:
    """Reads an HTTP/1.x response's head. Returns it, and the bytes that were read past it.

    Raises:
        OSError: the server closes the connection; ``trio.BrokenResourceError`` where it breaks.
        MalformedPacket: the bytes are not a response's, told by the first ones (an HTTP/2 server's frame, for
            example), or the head is longer than ``MAX_RESPONSE_HEAD``.
    """
    received = b""
    while (end := find_head_end(received)) < 0:
        if len(received) > MAX_RESPONSE_HEAD:
            raise MalformedPacket("the response's head is too long")
        data = await stream.receive_some(_READ_SIZE)
        if not data:
            raise ConnectionResetError("the server closed the connection instead of answering")
        received += data
        if not received.startswith(_PROTOCOL[: len(received)]):
            raise MalformedPacket("not an HTTP/1.1 response")
    return parse_response_head(received[:end]), received[end:]


async def _dial_target(target: Target) -> trio.SocketStream:
    """Resolves a target and tries its addresses in turn. Raises OSError, the last address's."""
    try:
        found = await trio.socket.getaddrinfo(
            target.host, target.port, target.family, trio.socket.SOCK_STREAM
        )
    except ValueError:  # IDNA cannot express it
        raise OSError(f"{target.host} is not a valid host name") from None
    error: OSError = OSError(f"{target.host} has no address")
    for family, _, _, _, address in found:
        if not target.may_be_here and is_this_machine(str(address[0])):
            error = OSError(f"{target.host} is this machine itself, where no relay of a server elsewhere is")
            continue
        try:
            return await _dial_address(family, address)
        except OSError as failure:
            error = failure
    raise error


async def _dial_address(family: int, address: object) -> trio.SocketStream:
    mark = _marks.get()[family == trio.socket.AF_INET6]
    if not mark:
        return await _connect(family, address)
    return await _first(
        [
            partial(_connect, family, address, mark=mark),
            partial(_connect, family, address, after=_UNMARKED_DELAY),
        ]
    )


async def _connect(family: int, address: object, *, mark: int = 0, after: float = 0.0) -> trio.SocketStream:
    """Connects to an address after a delay in seconds; a mark is left out without the privilege for it."""
    await trio.sleep(after)
    socket = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        if mark:
            with suppress(PermissionError):
                socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_MARK, mark)
        await socket.connect(address)
    except BaseException:
        socket.close()
        raise
    return trio.SocketStream(socket)


async def _connect_through(proxy: SplitResult, host: str, port: int) -> trio.abc.Stream:
    """Returns a tunnel to a host through an HTTP proxy (CONNECT, RFC 9110 §9.3.6). Raises OSError."""
    proxy_host, proxy_port = proxy.hostname or "", proxy.port or _SCHEME_PORTS[proxy.scheme]
    stream: trio.abc.Stream = await race([Target(trio.socket.AF_UNSPEC, proxy_host, proxy_port)])
    if proxy.scheme == "https":
        stream = await start_tls(stream, ssl.create_default_context(), proxy_host)
    try:
        await stream.send_all(_connect_request(proxy, host, port))
        answer, leftover = await read_response_head(stream)
        if answer.status != 200 or leftover:
            raise OSError(
                f"the proxy {proxy_host}:{proxy_port} refused to connect to {host}:{port} ({answer.status})"
            )
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError | MalformedPacket):
            raise _cause(error, f"the proxy {proxy_host}:{proxy_port} broke the connection") from error
        raise
    return stream


def _connect_request(proxy: SplitResult, host: str, port: int) -> bytes:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.username:
        credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials).decode()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _cause(error: BaseException, message: str) -> OSError:
    """Returns the OSError that caused another error, or a new one with the message."""
    cause = error.__cause__
    return cause if isinstance(cause, OSError) else OSError(message)
