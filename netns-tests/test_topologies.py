"""On each topology the nodes settle on the path that the oracle foretells, and data flows over it.

And when UDP is lost later on, a TCP stream under way returns to the relay, and to the direct path with UDP,
without its noticing.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab import TOPOLOGIES, Lab, LabError, Node, until
from oracle import predict

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

MEGABYTE = 1_000_000
ONLY_RELAYED = 10


CHOSEN = (
    "same-lan",
    "no-nat",
    "easy-nat",
    "hard-open",
    "hard-strict",
    "hard-nat-both",
    "udp-blocked",
    "ipv6-only",
)
"""``scripts/lab matrix`` goes through all."""


@pytest.mark.parametrize("name", CHOSEN)
def test_the_path_is_the_predicted_one_and_data_flows(name: str) -> None:
    with Lab(name) as lab:
        lab.join()
        expected = predict(TOPOLOGIES[name])
        if expected == "direct":
            lab.user.wait_for_path("dev", "direct", timeout=20)
            lab.dev.wait_for_path("user", "direct", timeout=20)
        else:
            assert pings_until_direct(lab.user) == ONLY_RELAYED
        lab.internet.watch_server_link()
        sent = iperf3(lab, megabytes=3)
        assert lab.user.path_to("dev") == expected
        if expected == "direct":
            assert lab.internet.server_link_bytes < 0.05 * sent
        else:
            assert lab.internet.server_link_bytes > 2 * sent  # in and out again


def pings_until_direct(node: Node) -> int:
    """The exit code of pinging dev until a direct answer, which gives up after six."""
    return node.host.run(
        ["coderctl", "ping", "dev", "--until-direct", "-c", "6", "--interval", "0.5s"], check=False
    ).returncode


def address_of(node: Node) -> str:
    """A node's tailnet address, bare."""
    status = node.status()
    assert status is not None
    return str(status["self"]["address"]).partition("/")[0]


def iperf3(lab: Lab, *, megabytes: int) -> int:
    """Send so much through the tunnel from the user to dev; the bytes that dev's end received."""
    address = address_of(lab.dev)
    with lab.dev.host.start(["iperf3", "--server", "--one-off", "--forceflush"]) as server:
        server.wait_for("listening")
        report = json.loads(
            lab.user.run(["iperf3", "-c", address, "-n", f"{megabytes}M", "--json"], timeout=30)
        )
    return int(report["end"]["sum_received"]["bytes"])


class Stream:
    """One TCP connection through the tunnel, from the user's host to dev's, with bytes always under way."""

    def __init__(self, sender: socket.socket, receiver: socket.socket) -> None:
        self._sender = sender
        self._receiver = receiver
        self._stopped = threading.Event()
        self.received = 0
        self.longest_gap = 0.0
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(10)

    def _send(self) -> None:
        block = bytes(16_384)
        while not self._stopped.is_set():
            self._sender.sendall(block)
        self._sender.close()

    def _receive(self) -> None:
        last = time.monotonic()
        while data := self._receiver.recv(65_536):
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - last)
            last = now
            self.received += len(data)

    def moved(self, n_bytes: int, *, timeout: float = 30.0) -> None:
        """Wait until so many more bytes have arrived."""
        goal = self.received + n_bytes
        try:
            until(lambda: self.received >= goal, f"{n_bytes} more bytes of the stream", timeout=timeout)
        except LabError as error:
            raise LabError(f"{error}; {self.received - goal + n_bytes} came") from None


@contextmanager
def tcp_stream(lab: Lab) -> Iterator[Stream]:
    """A running stream; it ends cleanly or the test fails."""
    address = address_of(lab.dev)
    with lab.dev.host.network():
        listener = socket.create_server((address, 7000), family=socket.AF_INET6)
    with listener:
        with lab.user.host.network():
            sender = socket.create_connection((address, 7000), 10)
        receiver, _ = listener.accept()
    with sender, receiver:
        stream = Stream(sender, receiver)
        stream.start()
        try:
            yield stream
        finally:
            stream.stop()


def test_one_tcp_stream_returns_to_the_relay_when_udp_is_lost() -> None:
    with Lab("easy-nat") as lab:
        lab.join()
        lab.user.wait_for_path("dev", "direct", timeout=20)
        with tcp_stream(lab) as stream:
            stream.moved(MEGABYTE)
            with lab.udp_held():
                lab.user.wait_for_path("dev", "relay", timeout=20)
                stream.moved(MEGABYTE, timeout=30)
            lab.user.wait_for_path("dev", "direct", timeout=30)
            stream.moved(MEGABYTE)


def test_tcp_alone_to_the_server_is_enough() -> None:
    with Lab("easy-nat") as lab, lab.udp_held(to_server_too=True):
        lab.join()
        iperf3(lab, megabytes=1)
        assert lab.user.path_to("dev") == "relay"
