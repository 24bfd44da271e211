"""Web apps as a browser gets them: through a server without root, which is a node of its own network.

::

    user, with a browser ──[NAT]── core ──[NAT]── dev, with an app on its loopback
                                    │
                             server, run by nobody
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, Process, until
from people import NOBODY, as_service

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.alone("measures how soon a browser loses an app"),
]

SIZE = 50_000_000
APP = "/@admin/dev/apps/8080"
ECHO = """
import sys, trio
from trio_websocket import ConnectionClosed, open_websocket_url
async def main(url, token):
    mine = [(b"authorization", b"Bearer " + token.encode())]
    async with open_websocket_url(url, extra_headers=mine) as socket:
        for message in ("hello", b"\\x00" * 100_000):
            await socket.send_message(message)
            assert await socket.get_message() == message
        print("echoed", flush=True)
        try:
            await socket.get_message()
        except ConnectionClosed as closed:
            print("closed", closed.reason.code, flush=True)
trio.run(main, sys.argv[1], sys.stdin.readline().strip())
"""


class Browser:
    """HTTP from the user's host, as the admin."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.url = lab.server.url + APP
        self.config = f'header = "Authorization: Bearer {lab.server.admin_token}"\n'

    def get(self, path: str, *options: str) -> str:
        return self._lab.user.host.run(
            ["curl", "-s", "-K", "-", *options, self.url + path], input=self.config, timeout=60
        ).stdout

    def start(self, path: str) -> Process:
        """A request that goes on."""
        return self._lab.user.host.start(["curl", "-sN", "-K", "-", self.url + path], input=self.config)

    def open_websocket(self) -> Process:
        url = "ws" + self.url.removeprefix("http") + "/echo"
        token = self._lab.server.admin_token
        return self._lab.user.host.start([sys.executable, "-c", ECHO, url], input=f"{token}\n")


def start_app(lab: Lab) -> None:
    argv = ["-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:8080", "web_app:app"]
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    lab.dev.host.start([sys.executable, *argv], name="the app", env=here)
    until(lambda: lab.dev.host.answers_tcp("127.0.0.1", 8080), "the app to listen")


def serve_without_root(lab: Lab) -> None:
    state = lab.server.host.path(lab.server.state_dir)
    state.mkdir(mode=0o700)
    os.chown(state, NOBODY, NOBODY)
    lab.server.launcher = as_service(NOBODY)


@pytest.fixture(params=["easy-nat", "udp-blocked"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(request.param) as lab:
        serve_without_root(lab)
        lab.join()
        start_app(lab)
        yield lab


def server_path(lab: Lab) -> str:
    return lab.dev.path_to("server")


def test_an_app_on_the_loopback_of_a_workspace_is_used_by_browser(lab: Lab) -> None:
    browser = Browser(lab)
    told = json.loads(browser.get("/hello?x=1"))
    assert told["target"] == "/hello"
    assert "authorization" not in told["headers"]
    lab.user.host.path("/run/big").write_bytes(bytes(SIZE))
    answer = json.loads(browser.get("/upload", "--data-binary", "@/run/big"))
    assert answer == {"sha256": hashlib.sha256(bytes(SIZE)).hexdigest(), "size": SIZE}
    if lab.topology.user.passes_udp:
        assert server_path(lab) == "direct"
    else:
        assert server_path(lab) == "relay"
    ticks, socket = browser.start("/ticks"), browser.open_websocket()
    ticks.wait_for("data: 3")
    socket.wait_for("echoed")
    lab.server.coderctl("workspaces", "delete", "dev", "--yes")
    deleted_at = time.monotonic()
    until(lambda: not ticks.is_running, "the stream to end", timeout=10)
    socket.wait_for("closed")
    assert time.monotonic() - deleted_at < 6  # two seconds are the aim
    assert browser.get("/hello", "-o", "/dev/null", "-w", "%{http_code}") == "404"
