"""Nobody reaches through a tunnel what its other end did not agree to, even with their own daemon.

::

    bob's laptop ──[easy NAT]── core ──[easy NAT]── dev, the admin's, shared with bob ── a host behind it
      sshd on ::                  │                   services on ::, another address
                                server

Both daemons are hostile senders: they put any packet into the tunnel, wherever it goes. What they receive
they treat as ours does, so each is a modified peer to an unmodified receiver.
"""

import errno
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from lab import Host, Lab, Node

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

HOSTILE = f"""#!{sys.executable}
import sys
from coderd.wireguard.device import Device
from coderd.wireguard.inner import destination
genuine = Device.handle_packets
def anywhere(self, packets, now, unix_now):
    address = destination(packets[0]) if packets else None
    peers = list(self._peers.values())
    if address is None or not peers or self._allowed_ips.lookup(address) is not None:
        return genuine(self, packets, now, unix_now)
    peers[0].send(packets, now, unix_now)
    self._touch(peers[0])
Device.handle_packets = anywhere
from coderd.cli.coderd import main
sys.exit(main())
"""

LISTEN = """
import selectors, socket, sys, time
selector = selectors.DefaultSelector()
for port in map(int, sys.argv[2:]):
    selector.register(socket.create_server(("::", port), family=socket.AF_INET6), selectors.EVENT_READ)
print(sys.argv[1], flush=True)
kept = []
while True:
    for key, _ in selector.select():
        kept.append(key.fileobj.accept()[0])
        kept[-1].sendall(b"hello")
"""

SSH, SHARED, OTHER = 22, 8000, 9000
ELSEWHERE, BEHIND, GATEWAY = "fd00:77::1", "fd00:78::2", "fd00:78::1"
PATIENCE = 2.0
"""Seconds for a connection; a refusal takes a round trip."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("easy-nat") as lab:
        for node in (lab.user, lab.dev):
            install(node)
        lab.join_dev()
        bob = lab.server.coderctl("users", "create", "bob").strip()
        lab.server.share("dev", "bob", bob)
        lab.server.coderctl("share", "dev", "--with", "bob", "--ports", str(SHARED), "--no-terminal")
        lab.user.host.environment["BOBS_TOKEN"] = bob
        lab.user.join_as_user(lab.server.url, bob)
        lab.user.wait_for_peer("admin/dev")
        add_surroundings(lab)
        listen(lab.user.host, SSH)
        listen(lab.dev.host, SSH, SHARED, OTHER)
        yield lab


def install(node: Node) -> None:
    """The hostile daemon in the place of ours."""
    directory = node.host.path("/run/hostile")
    directory.mkdir()
    launcher = directory / "coderd"
    launcher.write_text(HOSTILE, encoding="ascii")
    launcher.chmod(0o755)
    node.host.environment["PATH"] = f"/run/hostile:{node.host.environ()['PATH']}"


def add_surroundings(lab: Lab) -> None:
    """Another address of dev, a host behind it, and the laptop's routes to both through the tunnel."""
    host = lab.dev.host
    behind = host.start(
        ["unshare", "--net", "sh", "-c", "ip link set lo up; echo apart; exec sleep 600"], name="behind"
    )
    behind.wait_for("apart")
    enter = ["nsenter", "--net", "--target", str(behind.pid)]
    host.ip(
        f"addr add {ELSEWHERE}/128 dev lo", f"link add behind0 type veth peer name eth0 netns {behind.pid}"
    )
    host.ip(f"addr add {GATEWAY}/64 dev behind0 nodad", "link set behind0 up")
    for command in (
        f"addr add {BEHIND}/64 dev eth0 nodad",
        "link set eth0 up",
        f"route add default via {GATEWAY}",
    ):
        host.run([*enter, "ip", "-6", *command.split()])
    host.run(["sysctl", "-w", "net.ipv6.conf.all.forwarding=1"])
    host.start([*enter, "python3", "-c", LISTEN, "listening", str(SSH)], name="sshd behind").wait_for(
        "listening"
    )
    for network in ("fd00:77::/64", "fd00:78::/64"):
        lab.user.host.run(["ip", "-6", "route", "add", network, "dev", lab.user.interface])


def listen(host: Host, *ports: int) -> None:
    host.start(["python3", "-c", LISTEN, "listening", *map(str, ports)], name="services").wait_for(
        "listening"
    )


def connect(host: Host, address: str, port: int) -> socket.socket:
    """A connection to a service that says hello. Raises OSError."""
    with host.network():
        connection = socket.create_connection((address, port), timeout=PATIENCE)
    try:
        if connection.recv(16) != b"hello":
            raise ConnectionResetError(errno.ECONNRESET, "no greeting")
    except BaseException:
        connection.close()
        raise
    return connection


def is_reached(host: Host, address: str, port: int) -> bool:
    try:
        connect(host, address, port).close()
    except OSError:
        return False
    return True


def is_refused_at_once(host: Host, address: str, port: int) -> bool:
    begun = time.monotonic()
    with pytest.raises(PermissionError):
        connect(host, address, port)
    return time.monotonic() - begun < PATIENCE / 2


def drops(node: Node, name: str) -> int:
    status = node.status()
    assert status is not None
    return int(status["counters"].get(name, 0))


def address_of(node: Node, peer: str) -> str:
    entry = node.peer(peer)
    assert entry is not None
    return str(entry["address"])


def laptop_of(lab: Lab) -> str:
    return str(lab.user.address)


def test_a_persons_sshd_is_reached_from_nowhere_but_where_they_said_so(lab: Lab) -> None:
    laptop = laptop_of(lab)
    assert is_refused_at_once(lab.dev.host, laptop, SSH)
    assert drops(lab.user, "packetfilter.drop.not_accepted") > 0
    lab.user.coderctl("up", "--accept-inbound", str(SSH))
    with closing(connect(lab.dev.host, laptop, SSH)) as kept:
        lab.user.coderctl("up", "--accept-inbound", "none")
        assert is_refused_at_once(lab.dev.host, laptop, SSH)
        kept.sendall(b"still there?")
        with pytest.raises(ConnectionResetError):
            kept.recv(1)
    assert drops(lab.user, "packetfilter.drop.ended") > 0
    status = lab.user.status()
    assert status is not None
    assert status["self"]["accept_inbound"] == "none"


def test_a_guest_reaches_the_ports_of_the_share_and_no_others(lab: Lab) -> None:
    dev = address_of(lab.user, "admin/dev")
    connect(lab.user.host, dev, SHARED).close()
    for port in (SSH, OTHER):
        assert is_refused_at_once(lab.user.host, dev, port)


def test_other_addresses_and_hosts_behind_are_reached_through_no_tunnel(lab: Lab) -> None:
    for target in (ELSEWHERE, BEHIND):
        connect(lab.dev.host, target, SSH).close()  # so it listens, and dev has the way
        before = drops(lab.dev, "wireguard.drop.other_destination")
        assert not is_reached(lab.user.host, target, SSH)
        assert drops(lab.dev, "wireguard.drop.other_destination") > before


def test_what_people_do_goes_on(lab: Lab) -> None:
    dev = address_of(lab.user, "admin/dev")
    for host, target in ((lab.user.host, dev), (lab.dev.host, laptop_of(lab))):
        host.run(["ping", "-c", "3", "-i", "0.3", "-W", "2", target])
    lab.user.coderctl("speedtest", "admin/dev", "-t", "1s")
    with lab.user.host.start(["coderctl", "port-forward", "admin/dev", f"7000:{SHARED}"]) as forwarding:
        forwarding.wait_for("7000")
        connect(lab.user.host, "127.0.0.1", 7000).close()
