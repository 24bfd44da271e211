"""A load of relay clients.

Pairs of them, a sender and a receiver each, in one process that does nothing else.

Run as a program it connects, says ``ready`` and then answers each line of JSON with a line of JSON::

    {"rate": 100000, "seconds": 2}      frames per second over all pairs together; null: as many as the relay takes
    {"seconds": …, "sent": …, "received": …, "delay_p50": …, "delay_p99": …}

Every frame carries the time at which it was made, so what it waited for, in our sockets, in the relay and in
the kernel, is seen where it arrives. What was sent before the end of a run and has not come SETTLE seconds
after it is lost.
"""

import json
import selectors
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from os import urandom

import numpy as np

from coderd.derp.client import DerpClient
from coderd.derp.frame import HEADER, KEYED_HEADER_SIZE, FrameType, encode_send_packets
from coderd.http.head import find_head_end
from coderd.model.keys import NodePrivate, NodePublic

PACKET_SIZE = 1340
"""Bytes of a WireGuard datagram with a full packet of MTU 1280 and some padding.

Published figures of other relays use that size.
"""
FRAME_SIZE = KEYED_HEADER_SIZE + PACKET_SIZE
BURST = 44
"""Frames written at once: what a node makes of one super-packet."""
SETTLE = 0.5
READ_SIZE = 1 << 20
_STAMP = slice(KEYED_HEADER_SIZE, KEYED_HEADER_SIZE + 8)
_RECEIVED = HEADER.pack(FrameType.RECV_PACKET, FRAME_SIZE - HEADER.size)
_UPGRADE = b"GET /derp HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n"


@dataclass
class Sender:
    """One who sends, all of it to one receiver."""

    sock: socket.socket
    burst: np.ndarray
    rest: memoryview = field(default_factory=lambda: memoryview(b""))
    """What the socket has not taken yet of the last burst."""

    def write(self, n_frames: int) -> int:
        """Starts a burst of fresh frames unless the last one still waits; returns how many were begun."""
        begun = 0
        if not self.rest:
            self.burst[:n_frames, _STAMP] = np.frombuffer(
                time.monotonic_ns().to_bytes(8, "little"), dtype=np.uint8
            )
            self.rest = memoryview(self.burst[:n_frames].reshape(-1).data).cast("B")
            begun = n_frames
        with suppress(BlockingIOError, ssl.SSLWantWriteError):
            while self.rest:
                self.rest = self.rest[self.sock.send(self.rest) :]
        return begun


@dataclass
class Receiver:
    """One who receives, and only counts; looks at one frame's time per read."""

    sock: socket.socket
    n_bytes: int = 0
    delays: list[float] = field(default_factory=list)

    def read(self, buffer: bytearray) -> None:
        """Takes what is there."""
        with suppress(BlockingIOError, ssl.SSLWantReadError):
            while True:
                size = self.sock.recv_into(buffer)
                if not size:
                    raise ConnectionResetError("the relay closed a receiver's connection")
                self.n_bytes += size
                start = buffer.find(_RECEIVED, 0, size) + KEYED_HEADER_SIZE
                if KEYED_HEADER_SIZE <= start <= size - 8:
                    made_at = int.from_bytes(buffer[start : start + 8], "little")
                    self.delays.append((time.monotonic_ns() - made_at) / 1e9)


class Load:
    """All pairs, connected.

    Args:
        host: the relay's address.
        port: its TCP port.
        n_pairs: how many.
        is_tls: whether to speak TLS, with any certificate.
    """

    def __init__(self, host: str, port: int, n_pairs: int, *, is_tls: bool) -> None:
        self._senders: list[Sender] = []
        self._receivers: list[Receiver] = []
        self._selector = selectors.EpollSelector()
        self._buffer = bytearray(READ_SIZE)
        for _ in range(n_pairs):
            key = NodePrivate.generate(urandom)
            receiver = Receiver(connect(host, port, key, is_tls=is_tls))
            self._selector.register(receiver.sock, selectors.EVENT_READ, receiver)
            self._receivers.append(receiver)
            sender = connect(host, port, NodePrivate.generate(urandom), is_tls=is_tls)
            self._senders.append(Sender(sender, make_burst(key.public())))

    def run(self, rate: float | None, seconds: float) -> dict[str, float]:
        """Sends for some seconds and waits for what is under way."""
        for receiver in self._receivers:
            receiver.delays.clear()
        before = sum(receiver.n_bytes for receiver in self._receivers)
        began = time.monotonic()
        sent = 0
        turns = self._turns()
        while (spent := time.monotonic() - began) < seconds:
            due = BURST * len(self._senders) if rate is None else int(rate * spent) - sent
            for _ in range(len(self._senders)):
                if due <= 0:
                    break
                n = next(turns).write(min(due, BURST))
                sent, due = sent + n, due - n
            self._receive(0)
        spent = time.monotonic() - began
        self._finish()
        received = (sum(receiver.n_bytes for receiver in self._receivers) - before) / FRAME_SIZE
        delays = sorted(delay for receiver in self._receivers for delay in receiver.delays)
        cuts = statistics.quantiles(delays, n=100) if len(delays) > 1 else [0.0] * 99
        return {
            "seconds": spent,
            "sent": sent,
            "received": received,
            "delay_p50": cuts[49],
            "delay_p99": cuts[98],
        }

    def _turns(self) -> Iterator[Sender]:
        while True:
            yield from self._senders

    def _receive(self, timeout: float) -> bool:
        ready = self._selector.select(timeout)
        for key, _ in ready:
            key.data.read(self._buffer)
        return bool(ready)

    def _finish(self) -> None:
        """Lets the last bursts leave and everything arrive."""
        quiet_at = time.monotonic() + SETTLE
        while time.monotonic() < quiet_at:
            for sender in self._senders:
                if sender.rest:
                    sender.write(0)
            if self._receive(0.01):
                quiet_at = time.monotonic() + SETTLE


def make_burst(to: NodePublic) -> np.ndarray:
    """BURST SendPacket frames, a row each."""
    frames = encode_send_packets(to, [bytes(PACKET_SIZE)] * BURST)
    return np.frombuffer(bytearray(frames), dtype=np.uint8).reshape(BURST, FRAME_SIZE)


def connect(host: str, port: int, key: NodePrivate, *, is_tls: bool) -> socket.socket:
    """An admitted client's connection, made non-blocking. Raises OSError."""
    sock = socket.create_connection((host, port), timeout=20)
    if is_tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    client = DerpClient(key, is_home=True, rng=urandom, now=time.monotonic())
    sock.sendall(_UPGRADE)
    received = b""
    while (end := find_head_end(received)) < 0:
        received += _read(sock)
    client.handle_data(received[end:], time.monotonic())
    while client.server_info is None:
        if answer := client.poll_transmit():
            sock.sendall(answer)
        client.handle_data(_read(sock), time.monotonic())
    if answer := client.poll_transmit():
        sock.sendall(answer)
    sock.setblocking(False)
    return sock


def _read(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionResetError("the relay closed the connection before it admitted its client")
    return data


def main(host: str, port: str, n_pairs: str, scheme: str) -> None:
    """Connects, then works off its orders."""
    load = Load(host, int(port), int(n_pairs), is_tls=scheme == "https")
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(load.run(order["rate"], order["seconds"])), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
