"""Requests as a browser makes them, over bare sockets: what it costs beside the way itself is little.

python -m bench.web_load HOST PORT PREFIX SECONDS, the Authorization header's value on stdin (empty: none);
JSON on stdout.
"""

import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

BODY = 100_000_000
"""Bytes of the large body."""
CONNECTIONS = 6
"""As many as a browser opens to one host."""
N_ECHOES = 200
WARM_UP = 10


@dataclass(frozen=True)
class Way:
    """How the service is reached."""

    host: str
    port: int
    prefix: str
    authorization: str

    def connect(self) -> "Client":
        """A connection that is kept."""
        return Client(self)

    def head(self, method: str, path: str, *fields: str) -> bytes:
        """A request's head."""
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self.host}:{self.port}", *fields]
        if self.authorization:
            lines.append(f"Authorization: {self.authorization}")
        return "\r\n".join([*lines, "", ""]).encode()


class Client:
    """One connection."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._socket = socket.create_connection((way.host, way.port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)

    def get(self, path: str) -> int:
        """Bytes of the answer's body."""
        self._socket.sendall(self._way.head("GET", path))
        return self._take_answer()

    def post(self, size: int) -> None:
        """A body of so many bytes."""
        self._socket.sendall(self._way.head("POST", "/upload", f"Content-Length: {size}"))
        piece = memoryview(bytes(1 << 18))
        left = size
        while left > 0:
            self._socket.sendall(piece[: min(left, len(piece))])
            left -= len(piece)
        self._take_answer()

    def _take_answer(self) -> int:
        seen = b""
        while b"\r\n\r\n" not in seen:
            if not (data := self._socket.recv(65536)):
                raise ConnectionError("the connection ended before an answer")
            seen += data
        head, _, rest = seen.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(head[:200].decode("latin-1"))
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        left = size - len(rest)
        while left > 0:
            if not (n := self._socket.recv_into(self._buffer, min(left, len(self._buffer)))):
                raise ConnectionError("the answer broke off")
            left -= n
        return size


def pages_per_second(way: Way, seconds: float) -> float:
    """Small pages over a browser's connections, all busy."""
    counts = [0] * CONNECTIONS
    until = time.monotonic() + seconds

    def ask(number: int) -> None:
        client = way.connect()
        while time.monotonic() < until:
            client.get("/page")
            counts[number] += 1

    begun = time.monotonic()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - begun)


def times(ask: Callable[[], object], n: int = N_ECHOES) -> float:
    """The median time of a request, in seconds."""
    spent = []
    for _ in range(WARM_UP + n):
        begun = time.monotonic()
        ask()
        spent.append(time.monotonic() - begun)
    return statistics.median(spent[WARM_UP:])


def measure(way: Way, seconds: float) -> dict[str, float]:
    """Every figure of one way: bytes per second, pages per second, seconds."""
    client = way.connect()
    latency = times(lambda: client.get("/page"))
    form = times(lambda: client.post(100))
    pages = pages_per_second(way, seconds)
    begun = time.monotonic()
    client.get(f"/bytes?{BODY}")
    downloaded = time.monotonic()
    client.post(BODY)
    uploaded = time.monotonic()
    return {
        "download": BODY / (downloaded - begun),
        "upload": BODY / (uploaded - downloaded),
        "pages": pages,
        "latency": latency,
        "latency-post": form,
    }


if __name__ == "__main__":
    host, port, prefix, seconds = sys.argv[1:]
    way = Way(host, int(port), prefix.rstrip("/"), sys.stdin.readline().strip())
    print(json.dumps(measure(way, float(seconds))))
