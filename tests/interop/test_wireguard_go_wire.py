"""Our device against a live wireguard-go, over loopback in a network namespace of their own.

```
 namespace:  Device of this test -- UDP 127.0.0.1 -- wireguard-go -- TUN 10.77.0.2 -- kernel (answers pings)
                 10.77.0.1
```
"""

import os
import select
import socket
import struct
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from uuid import uuid4

import pytest
from pyroute2 import netns

from coderd.model.keys import NodePrivate
from coderd.wireguard import Device, HandshakeCompleted
from tests.unit.wireguard.support import Source, take_events

pytestmark = [pytest.mark.interop, pytest.mark.netns, pytest.mark.slow]

PATIENCE = 15.0
"""Seconds: three times the protocol's longest wait here, one retransmission."""


def run(*command: str, stdin: bytes = b"") -> None:
    subprocess.run(command, input=stdin, check=True, capture_output=True, timeout=10)


def base64(key: bytes) -> str:
    return b64encode(key).decode()


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def echo_request(number: int, size: int) -> bytes:
    """An IPv4 ping from 10.77.0.1 to 10.77.0.2 of ``size`` bytes in all."""
    icmp = struct.pack(">BBHHH", 8, 0, 0, 7, number) + bytes(size - 28)
    icmp = icmp[:2] + checksum(icmp).to_bytes(2, "big") + icmp[4:]
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, number, 0, 64, 1, 0, b"\x0a\x4d\0\1", b"\x0a\x4d\0\2")
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + icmp


def is_echo_reply(packet: bytes) -> bool:
    return packet[9] == 1 and packet[20] == 0


def socket_in(namespace: str) -> socket.socket:
    """A UDP socket on a namespace's loopback; only the thread that opens it goes there."""
    made: list[socket.socket] = []

    def open_it() -> None:
        netns.setns(namespace)
        made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made[0].bind(("127.0.0.1", 0))

    thread = threading.Thread(target=open_it)
    thread.start()
    thread.join()
    return made[0]


@contextmanager
def namespace() -> Iterator[str]:
    name = f"coderd-{uuid4().hex[:8]}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        run("ip", "netns", "del", name)


class Ours:
    """Our end: a device, its socket, and wireguard-go's address."""

    def __init__(self, sock: socket.socket, device: Device, peer_port: int) -> None:
        self.sock, self.device, self.peer_port = sock, device, peer_port
        self.packets: list[bytes] = []
        self.n_handshakes = 0

    def send(self, *packets: bytes) -> None:
        self.device.handle_packets(packets, time.monotonic(), time.time())
        self.drain()

    def drain(self) -> None:
        self.n_handshakes += sum(isinstance(event, HandshakeCompleted) for event in take_events(self.device))
        while (received := self.device.poll_packets()) is not None:
            self.packets += map(bytes, received.packets)
        while (transmit := self.device.poll_transmit()) is not None:
            for datagram in transmit.datagrams:
                self.sock.sendto(datagram, ("127.0.0.1", self.peer_port))

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Works until something is so; fails if it does not come."""
        give_up_at = time.monotonic() + PATIENCE
        while not condition():
            now = time.monotonic()
            assert now < give_up_at, self.device.status(now)
            deadline = self.device.poll_timeout()
            wait = min(give_up_at, deadline.when if deadline else give_up_at) - now
            if select.select([self.sock], [], [], max(0.0, wait))[0]:
                data = self.sock.recv(65535)
                self.device.handle_datagrams(Source(), [data], time.monotonic(), time.time())
            self.device.handle_timeout(time.monotonic(), time.time())
            self.drain()


@contextmanager
def wireguard_go(name: str, interface: str, config: str) -> Iterator[int]:
    """wireguard-go with a configuration; yields its UDP port."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", name, "wireguard-go", "-f", interface],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for_socket(f"/var/run/wireguard/{interface}.sock", process)
        run("wg", "setconf", interface, "/dev/stdin", stdin=config.encode())
        run("ip", "-n", name, "address", "add", "10.77.0.2/24", "dev", interface)
        run("ip", "-n", name, "link", "set", interface, "mtu", "1420", "up")
        shown = subprocess.run(
            ["wg", "show", interface, "listen-port"], capture_output=True, check=True, timeout=10
        )
        yield int(shown.stdout)
    finally:
        process.terminate()
        process.wait(10)


def wait_for_socket(path: str, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        assert process.poll() is None
        assert time.monotonic() < give_up_at
        threading.Event().wait(0.02)


@pytest.fixture(params=[None, b"\x2a" * 32], ids=["without psk", "with psk"])
def ours(request: pytest.FixtureRequest) -> Iterator[tuple[Ours, str]]:
    psk: bytes | None = request.param
    mine, theirs = NodePrivate.generate(os.urandom), NodePrivate.generate(os.urandom)
    interface = f"wgt{uuid4().hex[:8]}"
    now = time.monotonic()
    device = Device(rng=os.urandom, now=now, mtu=1420)
    device.set_private_key(mine, now)
    device.set_peer(theirs.public(), now, preshared_key=psk, allowed_ips=[ip_network("10.77.0.2/32")])
    device.up(now)
    with namespace() as name, socket_in(name) as sock:
        config = f"""[Interface]
PrivateKey = {base64(theirs.raw)}
[Peer]
PublicKey = {base64(mine.public())}
{f"PresharedKey = {base64(psk)}" if psk else ""}
AllowedIPs = 10.77.0.1/32
Endpoint = 127.0.0.1:{sock.getsockname()[1]}
"""
        with wireguard_go(name, interface, config) as port:
            yield Ours(sock, device, port), name


def test_we_initiate_and_the_kernel_behind_wireguard_go_answers(ours: tuple[Ours, str]) -> None:
    end, _ = ours
    end.send(*[echo_request(number, 1420 if number % 2 else 60) for number in range(40)])
    end.run_until(lambda: sum(map(is_echo_reply, end.packets)) == 40)
    assert end.n_handshakes == 1


def test_wireguard_go_initiates_and_reaches_us(ours: tuple[Ours, str]) -> None:
    end, name = ours
    with subprocess.Popen(
        ["ip", "netns", "exec", name, "ping", "-c", "1", "-W", "10", "10.77.0.1"], stdout=subprocess.DEVNULL
    ) as ping:
        end.run_until(lambda: any(packet[9] == 1 and packet[20] == 8 for packet in end.packets))
        ping.terminate()
    assert end.n_handshakes == 1
    end.send(echo_request(1, 100))
    end.run_until(lambda: any(map(is_echo_reply, end.packets)))


def test_handshakes_that_cross_leave_a_tunnel(ours: tuple[Ours, str]) -> None:
    end, name = ours
    end.device.handle_packets([echo_request(1, 100)], time.monotonic(), time.time())
    with subprocess.Popen(
        ["ip", "netns", "exec", name, "ping", "-c", "1", "-W", "10", "10.77.0.1"], stdout=subprocess.DEVNULL
    ) as ping:
        readable = select.select([end.sock], [], [], PATIENCE)[0]  # its initiation is here, ours not yet sent
        assert readable
        end.drain()
        end.run_until(lambda: any(map(is_echo_reply, end.packets)))
        ping.terminate()
