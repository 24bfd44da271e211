"""nginx and haproxy before a relay, with the configurations of docs/proxies.md, only addresses and files changed."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from coderd.derp.io.client import DerpLink
from tests.shell.derp_world import A, Inbox, serving

pytestmark = [pytest.mark.interop, pytest.mark.slow]

PAGE = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text(encoding="utf-8")
NGINX = """
daemon off;
user root;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    uwsgi_temp_path {directory};
    scgi_temp_path {directory};
    {text}
}}
"""


def configuration(name: str, directory: Path, front: int, server: int) -> list[str]:
    """Writes the page's configuration of that name for these ports; returns the command that runs it."""
    found = re.search(rf"^```{name}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, f"the page has no {name}"
    text = found[1].replace("127.0.0.1:3000", f"127.0.0.1:{server}")
    text = re.sub(r"listen \d+", f"listen 127.0.0.1:{front}", text)
    text = re.sub(r"bind :\d+", f"bind 127.0.0.1:{front}", text)
    text = text.replace("/etc/haproxy/coder.pem", str(directory / "coder.pem"))
    file = directory / "front.conf"
    if name.startswith("nginx"):
        file.write_text(NGINX.format(directory=directory, text=text), encoding="utf-8")
        return ["nginx", "-e", "stderr", "-c", str(file)]
    file.write_text(text, encoding="utf-8")
    return ["haproxy", "-q", "-db", "-f", str(file)]


@asynccontextmanager
async def running(name: str, directory: Path, server: int) -> AsyncIterator[int]:
    """The front of that name, on a port of its own."""
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    command = configuration(name, directory, port, server)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.run_process, command, stdin=b"", check=False))
        with trio.fail_after(20):
            while True:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    await trio.sleep(0.02)  # nothing else tells that it listens
        yield port
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nginx", ""),
        ("nginx-websocket-only", "the proxy answered 426 to the upgrade"),
        ("haproxy", ""),
        ("haproxy-tls", ""),
        ("haproxy-websocket-only", "the proxy answered 400 to the upgrade"),
    ],
)
async def test_a_link_gets_through_the_front_as_the_page_says(name: str, why: str, tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    (tmp_path / "coder.pem").write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    async with serving() as server, running(name, tmp_path, server.port) as port:
        region = server.region(derp_port=port, force_http="tls" not in name, insecure_for_tests=True)
        link = await DerpLink.connect(region, A, is_home=True, rng=os.urandom)
        assert link.why_websocket == why
        inbox = Inbox()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run, inbox)
            link.send_nowait(A.public(), [bytes(1000)] * 500)
            await inbox.wait_for(lambda: len(inbox.packets) == 500)
            nursery.cancel_scope.cancel()
    if why:
        assert f"*{why}*" in PAGE
