"""The serving node's process for one test: ``python -m coderd.speedtest.io.worker FD DIRECTION NANOSECONDS``.

The daemon has read and granted the request and hands over the connected socket; the bytes never pass through
its loop. Says ``{}`` when it is ready, moves the bytes, ends. An alarm ends it whatever happens.
"""

import signal
import socket
import sys

from coderd.speedtest.io.streams import StreamBroken, receive, send
from coderd.speedtest.plan import Direction, StartReply, encode

GRACE = 30.0
"""Seconds beyond the test's own that the process may live."""
LIMIT_FACTOR = 4
"""A sender gets this many times the duration to stop, as in the protocol's other implementations."""


def limit(duration: float) -> float:
    """Returns the most seconds that a receiver reads."""
    return LIMIT_FACTOR * duration + 10.0


def main(argv: list[str]) -> int:
    """Serves one test over an inherited socket."""
    fd, direction, duration = int(argv[1]), Direction(int(argv[2])), int(argv[3]) / 1e9
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.alarm(int(limit(duration) + GRACE))
    with socket.socket(fileno=fd) as sock:
        try:
            sock.settimeout(5.0)
            sock.sendall(encode(StartReply()))
            if direction is Direction.DOWN:
                send(sock, duration=duration, progress=_nothing)
            else:
                receive(sock, limit=limit(duration), progress=_nothing)
        except (StreamBroken, OSError):
            return 1
    return 0


def _nothing(n_bytes: int, now: float) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main(sys.argv))
