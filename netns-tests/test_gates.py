"""What stands before a server hides and passes what it claims to, tried with plain sockets.

::

    user 10.0.1.2 ──[ NAT 198.51.100.2 ]── core ──[ 192.0.2.10 gate 192.168.7.1 ]── server 192.168.7.2
"""

import socket

import pytest
from lab import Lab, until
from lab.front import Kind, start_front

NAT = "198.51.100.2"
GATE = "192.168.7.1"


@pytest.mark.parametrize(
    ("name", "by_udp", "by_tcp"),
    [
        ("server-forwarded", NAT, NAT),
        ("server-masked", GATE, GATE),
        ("server-balanced", None, GATE),
    ],
)
def test_whom_a_server_sees_behind_a_gate(name: str, by_udp: str | None, by_tcp: str) -> None:
    with Lab(name) as lab:
        assert seen_by_udp(lab) == by_udp
        assert seen_by_tcp(lab) == by_tcp


def seen_by_udp(lab: Lab) -> str | None:
    """The address that a datagram to the STUN port comes from, if it comes.

    Asserts that the server's answer comes back.
    """
    with lab.server.host.udp("0.0.0.0", 3478) as server, lab.user.host.udp("0.0.0.0") as user:
        server.settimeout(0.15)
        user.sendto(b"who am I?", (lab.server.address, 3478))
        try:
            _, source = server.recvfrom(100)
        except TimeoutError:
            return None
        server.sendto(b"you", source)
        assert user.recvfrom(100) == (b"you", (lab.server.address, 3478))
        return str(source[0])


def seen_by_tcp(lab: Lab) -> str:
    """The address that a connection to the server's port comes from."""
    with lab.server.host.network():
        listener = socket.create_server(("0.0.0.0", 3000))
    with listener:
        listener.settimeout(5)
        with lab.user.host.network():
            user = socket.create_connection((lab.server.address, 3000), 5)
        with user:
            connection, source = listener.accept()
            connection.close()
    return str(source[0])


@pytest.mark.parametrize(
    ("front", "asked", "passed"),
    [
        ("nginx", "DERP", "DERP"),
        ("haproxy", "DERP", "DERP"),
        ("websockets", "DERP", ""),
        ("websockets", "websocket", "websocket"),
    ],
)
def test_which_upgrades_pass_a_front(front: Kind, asked: str, passed: str) -> None:
    with Lab("no-nat") as lab:
        server = lab.server.host
        with server.network():
            listener = socket.create_server(("127.0.0.1", 3001))
        with listener:
            listener.settimeout(5)
            start_front(server, front, (lab.server.address, 3000), ("127.0.0.1", 3001))
            until(lambda: server.answers_tcp(lab.server.address, 3000), f"{front} to listen")
            with lab.user.host.network():
                user = socket.create_connection((lab.server.address, 3000), 5)
            with user:
                user.sendall(REQUEST.format(upgrade=asked).encode())
                connection, _ = listener.accept()
                with connection:
                    head = connection.recv(10_000).decode().lower()
    assert (f"\r\nupgrade: {passed.lower()}\r\n" in head) == bool(passed)


REQUEST = "GET /derp HTTP/1.1\r\nHost: 192.0.2.10:3000\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
