"""Everything that a node says to its server goes through the proxy that the environment names, credentials and all."""

import base64
import os
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from coderd.api.io.client import ApiClient
from coderd.derp.io.client import DerpLink
from coderd.derp.io.meta_certificate import meta_certificate
from coderd.http.dialer import dial
from coderd.http.tls import TlsListener
from coderd.model.derpmap import DerpNode, DerpRegion
from coderd.model.keys import NodePrivate, ServerPrivate
from tests.shell.derp_world import A, Inbox
from tests.shell.derp_world import serving as serving_relay
from tests.shell.server_world import JoinedNode, in_thread, serving

HOST = "server.test"
"""Nobody but the proxy can resolve it."""


@dataclass
class Proxy:
    """An HTTP proxy that knows one host: CONNECT, and requests with a whole URL, each over a connection of its own."""

    onward: int
    """The local port that ``HOST`` stands for."""
    credentials: str = ""
    port: int = 0
    asked: list[str] = field(default_factory=list)

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, self._handle, 0, host="127.0.0.1"))
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            head, rest = await read_head(stream)
            method, target = head.split(" ")[:2]
            self.asked.append(f"{method} {target.removeprefix('http://').partition('/')[0]}")
            basic = base64.b64encode(self.credentials.encode()).decode()
            if self.credentials and f"Proxy-Authorization: Basic {basic}" not in head:
                await stream.send_all(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
                )
                return
            if not self.asked[-1].partition(" ")[2].startswith(HOST):
                await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            async with await trio.open_tcp_stream("127.0.0.1", self.onward) as server:
                if method == "CONNECT":
                    await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    origin = re.sub(r"http://[^/]+", "", head, count=1)
                    await server.send_all(origin.encode() + rest)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pump, server, stream, nursery.cancel_scope)
                    nursery.start_soon(pump, stream, server, nursery.cancel_scope)


async def read_head(stream: trio.SocketStream) -> tuple[str, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive_some() or b"\r\n\r\n"
    head, _, rest = received.partition(b"\r\n\r\n")
    return head.decode() + "\r\n\r\n", rest


async def pump(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some():
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    both.cancel()


@asynccontextmanager
async def proxying(
    onward: int, monkeypatch: pytest.MonkeyPatch, *, credentials: str = "", shown: str = ""
) -> AsyncIterator[Proxy]:
    """A proxy that the environment names for every scheme, showing it some credentials."""
    proxy = Proxy(onward, credentials)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{shown + '@' if shown else ''}127.0.0.1:{proxy.port}")
        yield proxy
        nursery.cancel_scope.cancel()


def region(port: int) -> DerpRegion:
    return DerpRegion(999, "coder", "Coder", (DerpNode("999b", 999, HOST, derp_port=port, force_http=True),))


@pytest.mark.parametrize("force_websocket", [False, True])
@pytest.mark.parametrize("credentials", ["", "ann:p@ss:wörd"])
async def test_a_relay_link_goes_through_the_proxy(
    force_websocket: bool, credentials: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "ann:p%40ss%3Aw%C3%B6rd" if credentials else ""
    async with (
        serving_relay() as server,
        proxying(server.port, monkeypatch, credentials=credentials, shown=shown) as proxy,
    ):
        link = await DerpLink.connect(
            region(4443), A, is_home=True, rng=os.urandom, force_websocket=force_websocket
        )
        inbox = Inbox()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run, inbox)
            link.send_nowait(A.public(), [b"through the proxy"])
            await inbox.wait_for(lambda: bool(inbox.packets))
            nursery.cancel_scope.cancel()
        assert proxy.asked == [f"CONNECT {HOST}:4443"]


async def test_tls_with_the_relay_itself_goes_through_the_proxy_so_that_its_key_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(
        trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem.bytes()
        + meta_certificate(ServerPrivate(b"s" * 32).public())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    async with (
        serving_relay(wrap=lambda tcp: TlsListener(tcp, lambda: context)) as server,
        proxying(server.port, monkeypatch) as proxy,
    ):
        node = DerpNode("999b", 999, HOST, insecure_for_tests=True)
        link = await DerpLink.connect(
            DerpRegion(999, "coder", "Coder", (node,)), A, is_home=True, rng=os.urandom
        )
        await link.aclose()
        assert proxy.asked == [f"CONNECT {HOST}:443"]
        assert server.counters["derp.accept.fast_start"] == 1


async def test_the_api_and_coordination_go_through_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as world:
        port = world.started.http_address[1]
        token = await world.add_workspace("dev")
        async with proxying(port, monkeypatch) as proxy:
            url = f"http://{HOST}:{port}"
            assert (await in_thread(ApiClient(url, world.admin_token).me)).name
            node = JoinedNode(token)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.client(url).run)
                await node.until(lambda heard: heard.netmap is not None)
                nursery.cancel_scope.cancel()
        assert proxy.asked == [f"GET {HOST}:{port}", f"CONNECT {HOST}:{port}"]


@pytest.mark.parametrize(
    ("host", "shown", "status"), [(HOST, "", 407), (HOST, "ann:wrong", 407), ("other.test", "ann:x", 403)]
)
async def test_a_proxy_that_refuses_is_named_with_its_status_and_never_its_password(
    host: str, shown: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxying(9, monkeypatch, credentials="ann:x", shown=shown) as proxy:
        with pytest.raises(OSError, match=str(status)) as refused:
            await dial(host, 443)
        assert f"127.0.0.1:{proxy.port}" in str(refused.value)
        assert "wrong" not in str(refused.value)


async def test_a_host_that_no_proxy_names_is_dialled_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_relay() as server, proxying(server.port, monkeypatch) as proxy:
        monkeypatch.setenv("no_proxy", "127.0.0.1,.test")
        await (await server.link(NodePrivate(b"n" * 32))).aclose()
        assert proxy.asked == []
