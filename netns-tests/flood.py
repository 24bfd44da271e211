"""Floods of handshake initiations, live: who sends them, and what a tunnel beside them feels.

::

    user ─── core ─── dev        ours0 ═════ wg0: a session that exists, with pings on it
              │
             eve                 sends initiations to the user's WireGuard port
"""

import random
import re
import subprocess
import time
from dataclasses import dataclass

from lab import Host
from tunnels import PORT, End

from coderd.wireguard.cookie import MacStamp
from coderd.wireguard.message import Initiation

SENDER = """
import socket, sys, time
address, port, rate, n = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
data = sys.stdin.buffer.read()
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
began = time.monotonic()
for i in range(n):
    at = i * 148 % len(data)
    try:
        sock.sendto(data[at : at + 148], (address, port))
    except OSError:
        pass
    if i % 50 == 0 and (early := began + i / rate - time.monotonic()) > 0:
        time.sleep(early)
print(time.monotonic() - began)
"""


@dataclass(frozen=True)
class Feeling:
    """What a tunnel's user feels: answered share of pings, and their median round trip in ms."""

    n_sent: int
    n_answered: int
    median_ms: float


def initiations(receiver: bytes, n: int, *, seed: int = 1) -> list[bytes]:
    """Half with a true MAC1, half without; nothing else in them is true."""
    rng, stamp = random.Random(seed), MacStamp(receiver)
    made = []
    for number in range(n):
        message = Initiation(number, rng.randbytes(32), rng.randbytes(48), rng.randbytes(28)).encode()
        made.append(stamp.stamp(message, 0.0) if number % 2 else message + rng.randbytes(32))
    return made


class Flood:
    """``n`` initiations to an end's port from another host, at a rate, while the block runs.

    Args:
        sender: the flooder's host.
        target: whom it floods.
        public: the target's public key.
        n: how many.
        rate: per second, as far as the machine allows.
    """

    def __init__(self, sender: Host, target: str, public: bytes, *, n: int, rate: float) -> None:
        argv = ["python3", "-c", SENDER, target, str(PORT), str(rate), str(n)]
        self._data = b"".join(initiations(public, 2000))
        self._child = sender.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.seconds = 0.0

    def __enter__(self) -> "Flood":
        assert self._child.stdin is not None
        self._child.stdin.write(self._data)
        self._child.stdin.close()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as out:
            self.seconds = float(out.read() or 0)
        self._child.wait(60)


def ping(end: End, peer: End, n: int, interval: float = 0.05) -> Feeling:
    """Echoes through the tunnel; never fails."""
    argv = ["ping", "-c", str(n), "-i", str(interval), "-W", "2", peer.addresses[4]]
    text = end.host.run(argv, check=False, timeout=30 + n * interval).stdout
    times = sorted(float(ms) for ms in re.findall(r"time=([\d.]+) ms", text))
    return Feeling(n, len(times), times[len(times) // 2] if times else float("inf"))


def cpu_seconds(pid: int) -> float:
    """What a process has spent, user and system."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def wait_idle(pid: int, quiet: float = 0.2, timeout: float = 10.0) -> None:
    """Until a process has worked off what it had."""
    give_up_at, spent = time.monotonic() + timeout, -1.0
    while time.monotonic() < give_up_at and (now := cpu_seconds(pid)) != spent:
        spent = now
        time.sleep(quiet)
