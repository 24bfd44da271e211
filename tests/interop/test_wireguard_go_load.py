"""Cookies both ways and sessions that wear out, between our device and a live wireguard-go.

Of the two clocks ours is the one that jumps.

The laboratory is that of ``test_wireguard_go_wire``: one namespace, one loopback, one TUN behind which a
kernel answers.
"""

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from uuid import uuid4

import pytest

from coderd.model.keys import NodePrivate, NodePublic
from coderd.wireguard import Device, Transmit, keypair
from coderd.wireguard.cookie import MacStamp
from coderd.wireguard.message import COOKIE_REPLY_SIZE, INITIATION_SIZE, Initiation
from tests.interop.test_wireguard_go_wire import (
    Ours,
    base64,
    echo_request,
    is_echo_reply,
    namespace,
    socket_in,
    wireguard_go,
)
from tests.unit.wireguard.support import Source, take_transmits

pytestmark = [pytest.mark.interop, pytest.mark.netns, pytest.mark.slow, pytest.mark.alone("floods a daemon")]

NO_MAC2 = bytes(16)
FLOODER = Source(b"\x7f\x00\x00\x02\x10\x01")
JUMP = 6.0
"""Seconds: past the five within which nobody initiates twice."""


class Leaping(Ours):
    """Our end, on a clock that can leap ahead."""

    ahead = 0.0
    in_namespace = ""

    @property
    def now(self) -> float:
        return time.monotonic() + self.ahead

    def send(self, *packets: bytes) -> None:
        self.device.handle_packets(packets, self.now, time.time())
        self.drain()

    def ping_from_there(self) -> "subprocess.Popen[bytes]":
        argv = ["ip", "netns", "exec", self.in_namespace, "ping", "-c", "1", "-W", "12", "10.77.0.1"]
        return subprocess.Popen(argv, stdout=subprocess.DEVNULL)

    def n_replies(self) -> int:
        return sum(map(is_echo_reply, self.packets))

    def hear(self, timeout: float) -> bytes | None:
        """One datagram, given to nobody yet."""
        self.sock.settimeout(timeout)
        try:
            return self.sock.recv(65535)
        except TimeoutError:
            return None

    def take(self, datagram: bytes) -> None:
        self.device.handle_datagrams(Source(), [datagram], self.now, time.time())

    def work(self, seconds: float, until: Callable[[], bool]) -> None:
        """Takes what comes until something is so."""
        give_up_at = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < give_up_at
            if (datagram := self.hear(0.05)) is not None:
                self.take(datagram)
            self.device.handle_timeout(self.now, time.time())
            self.drain()


@contextmanager
def leaping(name: str) -> Iterator[Leaping]:
    mine, theirs = NodePrivate.generate(os.urandom), NodePrivate.generate(os.urandom)
    now = time.monotonic()
    device = Device(rng=os.urandom, now=now, mtu=1420)
    device.set_private_key(mine, now)
    device.set_peer(theirs.public(), now, allowed_ips=[ip_network("10.77.0.2/32")])
    device.up(now)
    with socket_in(name) as sock:
        config = f"""[Interface]
PrivateKey = {base64(theirs.raw)}
[Peer]
PublicKey = {base64(mine.public())}
AllowedIPs = 10.77.0.1/32
Endpoint = 127.0.0.1:{sock.getsockname()[1]}
"""
        with wireguard_go(name, f"wgl{uuid4().hex[:8]}", config) as port:
            end = Leaping(sock, device, port)
            end.in_namespace = name
            yield end


@pytest.fixture
def end() -> Iterator[Leaping]:
    with namespace() as name, leaping(name) as made:
        yield made


def junk(receiver: NodePublic, n: int) -> list[bytes]:
    """Initiations whose sender knows the receiver's key, and nothing else."""
    rng, stamp = random.Random(1), MacStamp(receiver)
    return [
        stamp.stamp(Initiation(i, rng.randbytes(32), rng.randbytes(48), rng.randbytes(28)).encode(), 0.0)
        for i in range(n)
    ]


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_a_session_that_has_carried_enough_messages_is_renewed_by_us(
    end: Leaping, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keypair, "REKEY_AFTER_MESSAGES", 50)
    if role == "responder":
        with end.ping_from_there() as ping:
            end.work(10, lambda: any(packet[9] == 1 and packet[20] == 8 for packet in end.packets))
            ping.terminate()
    for number in range(40):
        end.send(echo_request(number, 100))
    end.work(10, lambda: end.n_replies() == 40)
    assert end.n_handshakes == 1
    end.ahead = JUMP
    for number in range(40):
        end.send(echo_request(40 + number, 100))
    end.work(10, lambda: end.n_replies() == 80 and end.n_handshakes == 2)


def test_wireguard_go_comes_in_by_the_cookie_that_we_gave_it_under_load(end: Leaping) -> None:
    public = end.device.public_key
    assert public is not None
    flood = junk(public, 300)

    def press() -> None:
        """A flood from elsewhere, just before whatever comes next is taken."""
        end.device.handle_datagrams(FLOODER, flood, end.now, time.time())
        while end.device.status(end.now).n_queued_handshakes:
            flush_to_nobody(end.device)
            end.device.handle_timeout(end.now, time.time())
        flush_to_nobody(end.device)

    with end.ping_from_there() as ping:
        first = end.hear(10)
        assert first is not None
        assert (len(first), first[-16:]) == (INITIATION_SIZE, NO_MAC2)
        press()
        end.take(first)
        (answer,) = take_transmits(end.device)
        assert len(answer.datagrams[0]) == COOKIE_REPLY_SIZE
        end.sock.sendto(answer.datagrams[0], ("127.0.0.1", end.peer_port))
        second = end.hear(10)
        assert second is not None
        assert len(second) == INITIATION_SIZE
        assert second[-16:] != NO_MAC2
        press()
        assert end.device.status(end.now).is_under_load
        end.take(second)
        end.drain()
        end.work(10, lambda: any(packet[9] == 1 and packet[20] == 8 for packet in end.packets))
        ping.terminate()
    assert end.n_handshakes == 1


def flush_to_nobody(device: Device) -> list[Transmit]:
    """Answers to the flooder, who is not there."""
    transmits = take_transmits(device)
    assert {transmit.to for transmit in transmits} <= {FLOODER}
    return transmits


def test_we_come_in_by_the_cookie_that_wireguard_go_gave_us_under_load(end: Leaping) -> None:
    (peer,) = end.device.status(end.now).peers
    flood = junk(peer.key, 500)
    cookies: list[bytes] = []
    give_up_at = time.monotonic() + 20
    while not cookies:
        assert time.monotonic() < give_up_at
        end.ahead += JUMP
        for datagram in flood:
            end.sock.sendto(datagram, ("127.0.0.1", end.peer_port))
        end.device.initiate(peer.key, end.now, time.time() + end.ahead, force=True)
        ((initiation,),) = [transmit.datagrams for transmit in take_transmits(end.device)]
        end.sock.sendto(initiation, ("127.0.0.1", end.peer_port))
        while (heard := end.hear(0.2)) is not None:
            if len(heard) == COOKIE_REPLY_SIZE and heard[4:8] == initiation[4:8]:
                cookies.append(heard)
    end.take(cookies[0])
    end.device.initiate(peer.key, end.now, time.time() + end.ahead + 60, force=True)
    ((initiation,),) = [transmit.datagrams for transmit in take_transmits(end.device)]
    assert initiation[-16:] != NO_MAC2
    for datagram in flood:
        end.sock.sendto(datagram, ("127.0.0.1", end.peer_port))
    end.sock.sendto(initiation, ("127.0.0.1", end.peer_port))
    end.work(10, lambda: end.n_handshakes == 1)
