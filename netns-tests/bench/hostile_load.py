"""Clients that do their worst within their limits, the app and the probe that go with them.

Each is a process of its own.

    python -m bench.hostile_load probe HOST PORT SECONDS         JSON on stdout: seconds that each /healthz took
    python -m bench.hostile_load probe-control SOCKET SECONDS    the same of the daemon's status
    python -m bench.hostile_load app PORT                        a web app in the workspace, as hostile as its browsers
    python -m bench.hostile_load KIND HOST PORT                  a client until killed; what it may use in JSON on stdin

A client that the server cuts off comes back at once. What it sends is made beforehand, so that the server has
the work.
"""

import json
import os
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import trio

from coderd.coordination.io.coordination_client import CoordinationClient
from coderd.derp.frame import encode_send_packets
from coderd.derp.io.client import DerpLink
from coderd.model.derpmap import DerpNode, DerpRegion
from coderd.model.keys import DiscoPrivate, NodePrivate, NodePublic
from coderd.model.reachability import NodeUpdate

PIECE = 1 << 16
"""Bytes that are written at once."""
PROBE_PAUSE = 0.01
"""Seconds between two questions of the probe."""
MASK = bytes(4)
MASKED_PONGS = (b"\x8a\x80" + MASK) * (PIECE // 6)
PONGS = b"\x8a\0" * (PIECE // 2)
RESIZES = b"\x82\x85" + MASK + b"\x03" + bytes((0, 24, 0, 80))
CHUNKS = b"1\r\nx\r\n" * (PIECE // 6)
TINY_FRAMES = b"\x77\0\0\0\0" * (PIECE // 5)
STATUS = b'{"v":1,"id":1,"method":"status"}\n'
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
WEBSOCKET_OPEN = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
APP_PORT = 9000
MINE = f"/@admin/dev/apps/{APP_PORT}"

Secrets = dict[str, Any]


# The probe


def ask_healthz(host: str, port: int) -> Callable[[], object]:
    """A question on a connection that is kept."""
    connection = socket.create_connection((host, port), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = f"GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()

    def ask() -> None:
        connection.sendall(request)
        answer = b""
        while not answer.partition(b"\r\n\r\n")[2].endswith(b"}"):
            if not (data := connection.recv(65536)):
                raise ConnectionError("the server hung up on the probe")
            answer += data
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(answer[:100].decode("latin-1"))

    return ask


def ask_status(path: str) -> Callable[[], object]:
    """A question to the daemon, each on a connection of its own, as ``coderctl`` asks."""

    def ask() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(path)
            connection.sendall(STATUS)
            with connection.makefile("rb") as lines:
                if b'"result"' not in (answer := lines.readline()):
                    raise ConnectionError(answer[:100].decode("latin-1"))

    return ask


def probe(ask: Callable[[], object], seconds: float) -> list[float]:
    """How long each answer took."""
    spent = []
    until = time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        ask()
        spent.append(time.monotonic() - begun)
        time.sleep(PROBE_PAUSE)
    return spent


# The app


def serve_app(port: int) -> None:
    """Does to whoever asks what the path says, until killed."""
    with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    """One connection."""
    with connection, suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        path = head.split(b" ", 2)[1]
        if path.endswith(b"/frames") or path.endswith(b"/listen"):
            connection.sendall(WEBSOCKET_OPEN + accept_token(head) + b"\r\n\r\n")
        elif path.endswith(b"/chunks"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        elif path.endswith(b"/big"):
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        piece = {b"frames": PONGS, b"chunks": CHUNKS, b"big": bytes(PIECE)}.get(path.rpartition(b"/")[2], b"")
        while piece:
            connection.sendall(piece)
        while connection.recv(PIECE):
            pass


def accept_token(head: bytes) -> bytes:
    """What a WebSocket's server answers to a key."""
    from wsproto.utilities import generate_accept_token

    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n") if b": " in line)
    name = b"sec-websocket-key"
    start = head.lower().index(name) + len(name) + 2
    assert name in fields
    return generate_accept_token(head[start:].split(b"\r\n", 1)[0])


# Clients


class Server:
    """Where it is, and what the client may use."""

    def __init__(self, host: str, port: int, secrets: Secrets) -> None:
        self.host, self.port, self.secrets = host, port, secrets
        self.bearer = f"Authorization: Bearer {secrets.get('token', '')}"

    def open(self, line: str, *fields: str) -> socket.socket:
        """A request, its answer not yet read."""
        connection = socket.create_connection((self.host, self.port), 60)
        lines = [f"{line} HTTP/1.1", f"Host: {self.host}:{self.port}", *fields, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        return connection

    def open_websocket(self, path: str, *fields: str) -> socket.socket:
        """One that is open."""
        connection = self.open(f"GET {path}", *UPGRADE, *fields)
        if not (answer := connection.recv(65536)).startswith(b"HTTP/1.1 101"):
            raise SystemExit(f"no WebSocket at {path}: {answer[:200]!r}")
        return connection


def pour(connection: socket.socket, piece: bytes) -> None:
    """Until the server hangs up; what it says is thrown away."""
    threading.Thread(target=swallow, args=(connection,), daemon=True).start()
    with connection, suppress(OSError):
        while True:
            connection.sendall(piece)


def swallow(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(PIECE):
            pass


def from_browser(server: Server) -> None:
    """Frames to an app."""
    pour(server.open_websocket(f"{MINE}/listen", server.bearer), MASKED_PONGS)


def from_app(server: Server) -> None:
    """Frames of an app."""
    swallow(server.open_websocket(f"{MINE}/frames", server.bearer))


def chunks_of_an_app(server: Server) -> None:
    """An answer in chunks of a byte."""
    swallow(server.open(f"GET {MINE}/chunks", server.bearer))


def upload(server: Server) -> None:
    """A request in chunks of a byte."""
    pour(server.open(f"POST {MINE}/take", server.bearer, "Transfer-Encoding: chunked"), CHUNKS)


def slow_reader(server: Server) -> None:
    """An answer without end, a little of which is taken."""
    with server.open(f"GET {MINE}/big", server.bearer) as connection:
        while connection.recv(4096):
            time.sleep(0.01)


def coordination(server: Server) -> None:
    """Frames before a node has said who it is."""
    pour(
        server.open_websocket("/api/v1/coordinate", f"Authorization: Bearer {server.secrets['node']}"),
        MASKED_PONGS,
    )


def terminal(server: Server) -> None:
    """A shell whose screen changes its size without pause."""
    origin = f"http://{server.host}:{server.port}"
    form = urllib.parse.urlencode({"token": server.secrets["token"], "next": "/"}).encode()
    fields = (
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(form)}",
        f"Origin: {origin}",
    )
    with server.open("POST /login", *fields, "Sec-Fetch-Site: same-origin") as connection:
        connection.sendall(form)
        answer = connection.recv(65536).decode("latin-1")
    cookie = answer.lower().index("set-cookie: ") + len("set-cookie: ")
    fields = (
        f"Cookie: {answer[cookie:].partition(';')[0]}",
        f"Origin: {origin}",
        "Sec-Fetch-Site: same-origin",
    )
    socket_ = server.open_websocket("/@admin/dev/terminal/ws", *fields)
    opening = b"\x01" + bytes(8) + bytes((0, 24, 0, 80))
    socket_.sendall(b"\x82" + bytes([0x80 | len(opening)]) + MASK + opening)
    pour(socket_, RESIZES * (PIECE // len(RESIZES)))


def strangers(server: Server) -> None:
    """Handshakes with the relay that are begun and left."""
    with server.open("GET /derp", "Upgrade: DERP", "Connection: Upgrade") as connection:
        connection.recv(PIECE)


def relay(server: Server, *, is_websocket: bool) -> None:
    """Frames of a node that the relay serves."""
    trio.run(_relay, server, is_websocket)


async def _relay(server: Server, is_websocket: bool) -> None:
    key, is_in = NodePrivate.generate(os.urandom), trio.Event()
    client = CoordinationClient(
        f"http://{server.host}:{server.port}",
        server.secrets["node"],
        node_key=key,
        disco_key=DiscoPrivate.generate(os.urandom).public(),
        generation=1,
        rng=os.urandom,
        on_netmap=lambda netmap: None,
        on_state=lambda state: is_in.set() if state.connected else None,
    )
    client.update(NodeUpdate(999, (), {}))
    node = DerpNode("999a", 999, server.host, derp_port=server.port, ipv4=server.host, force_http=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await is_in.wait()
        region = DerpRegion(999, "coder", "Coder", (node,))
        link = await DerpLink.connect(region, key, is_home=True, rng=os.urandom, force_websocket=is_websocket)
        nobody = encode_send_packets(NodePublic(bytes(32)), [b"\x04"]) * (PIECE // 38)
        while True:
            await link._stream.send_all(TINY_FRAMES)
            await link._stream.send_all(nobody)


def control(path: str) -> None:
    """Questions to the daemon without waiting for answers."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(path)
        pour(connection, STATUS * 16)


CLIENTS: dict[str, Callable[[Server], None]] = {
    "app-websocket-browser": from_browser,
    "app-websocket-app": from_app,
    "app-chunks": chunks_of_an_app,
    "upload": upload,
    "slow-reader": slow_reader,
    "coordination": coordination,
    "relay": lambda server: relay(server, is_websocket=False),
    "relay-websocket": lambda server: relay(server, is_websocket=True),
    "relay-strangers": strangers,
    "terminal": terminal,
}


def again(act: Callable[[], None]) -> Iterator[None]:
    """For ever."""
    while True:
        with suppress(OSError, trio.BrokenResourceError):
            act()
        yield


def main(kind: str, *arguments: str) -> None:
    """One of all these."""
    match kind:
        case "probe":
            host, port, seconds = arguments
            print(json.dumps(probe(ask_healthz(host, int(port)), float(seconds))))
        case "probe-control":
            path, seconds = arguments
            print(json.dumps(probe(ask_status(path), float(seconds))))
        case "app":
            serve_app(int(arguments[0]))
        case "control":
            for _ in again(lambda: control(arguments[0])):
                pass
        case _:
            server = Server(arguments[0], int(arguments[1]), json.loads(sys.stdin.read()))
            for _ in again(lambda: CLIENTS[kind](server)):
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
