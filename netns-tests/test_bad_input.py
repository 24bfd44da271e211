"""Hostile bytes on every socket, and daemons whose server, interface or place is taken from them.

::

      server 192.0.2.10:  TCP 3000 (HTTP, WebSocket, DERP), UDP 3478 and 3479 (STUN)
            │
    user ── core ── dev    UDP 41641; inside the tunnel TCP 3 and 4; the control socket
            │
           eve             no node of anybody's, with a public address

After each test the tunnel works, every daemon lives, and no log has a traceback.
"""

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from hostile import (
    HEADS,
    LINES,
    MESSAGES,
    STUN_COOKIE,
    STUN_REQUESTS,
    answer_to,
    datagrams,
    initiation,
    noise,
    tcp,
    websocket,
    websocket_frame,
    websocket_messages,
)
from lab import Host, Lab, Node, until

from coderd.derp.io.client import DerpLink
from coderd.model.derpmap import DerpNode, DerpRegion
from coderd.model.errors import Exit
from coderd.model.keys import NodePrivate, NodePublic

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

HEAD_TIMEOUT = 10.0
"""What the server grants a client that does not finish its request's head."""
N_SLOW = 60
DEV, SERVER = "203.0.113.2", "192.0.2.10"
DEV_PORT, HTTP_PORT, STUN_PORT, SPEEDTEST_PORT, NODE_API_PORT = 41641, 3000, 3478, 3, 4


class World:
    """A joined laboratory and one machine of nobody's."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.eve = lab.add_host("eve")
        peer = lab.user.peer("dev")
        assert peer is not None
        self.dev_address = str(peer["address"])
        self.dev_key = bytes.fromhex(str(peer["node_key"]).removeprefix("nodekey:"))

    def dev_counters(self) -> dict[str, int]:
        """What dev has counted so far."""
        return dict((self.lab.dev.status() or {})["counters"])

    def server_counters(self) -> dict[str, int]:
        """What the server has counted so far."""
        return dict(json.loads(self.lab.server.coderctl("debug", "counters", "--json"))["counters"])

    def wait_for_drops(self, before: dict[str, int], reason: str, n_dropped: int) -> None:
        """Wait until dev has counted as many more of these."""
        what = f"{reason} to rise by {n_dropped}"
        until(lambda: rises(before, self.dev_counters(), reason) >= n_dropped, what)

    def check(self) -> None:
        """The product works as if nothing had been."""
        assert self.lab.user.pings("dev")
        self.lab.user.run(["ping", "-c", "1", "-W", "5", self.dev_address])
        assert self.lab.user.path_to("dev") == "direct"
        for process in (self.lab.server.daemon, self.lab.user.daemon, self.lab.dev.daemon):
            assert process is not None
            assert process.is_running
            assert "Traceback" not in process.output


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Lab("no-nat") as lab:
        lab.join()
        lab.user.wait_for_path("dev", "direct")
        yield World(lab)


@pytest.fixture(scope="module", autouse=True)
def slow_heads(world: World) -> Iterator[list[socket.socket]]:
    """Connections to the server that begin a request and never end it. Opened first, looked at last."""
    with ExitStack() as stack:
        connections = [stack.enter_context(tcp(world.eve, SERVER, HTTP_PORT)) for _ in range(N_SLOW)]
        for connection in connections:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        yield connections


@pytest.fixture
def unharmed(world: World) -> Iterator[None]:
    """What a test did to the world has harmed nobody."""
    yield
    world.check()


hostile = pytest.mark.usefixtures("unharmed")


def rises(before: dict[str, int], after: dict[str, int], name: str) -> int:
    """By how much a counter has risen."""
    return after.get(name, 0) - before.get(name, 0)


# ---- a node's UDP port


@hostile
@pytest.mark.parametrize("reason", datagrams(bytes(32)))
def test_hostile_datagrams_are_dropped_and_counted_by_reason(world: World, reason: str) -> None:
    sent = datagrams(world.dev_key)[reason]
    before = world.dev_counters()
    with world.eve.udp("0.0.0.0") as sock:
        for datagram in sent:
            sock.sendto(datagram, (DEV, DEV_PORT))
    world.wait_for_drops(before, reason, len(sent))


@hostile
def test_packets_of_the_tunnel_replayed_or_altered_by_another_machine_change_nothing(world: World) -> None:
    with world.lab.capture(world.lab.dev.host, f"udp dst port {DEV_PORT} and dst host {DEV}") as seen:
        world.lab.user.run(["ping", "-c", "3", "-i", "0.2", world.dev_address])
    captured = [packet.frame[14 + 20 + 8 :] for packet in seen.packets()]
    transport = [payload for payload in captured if payload[:4] == b"\x04\0\0\0"]
    assert len(transport) >= 3
    before = world.dev_counters()
    with world.eve.udp("0.0.0.0") as sock:
        for payload in transport:
            sock.sendto(payload, (DEV, DEV_PORT))
            # a counter that is still to come, under a seal that does not cover it
            sock.sendto(payload[:8] + (1 << 40).to_bytes(8, "little") + payload[16:], (DEV, DEV_PORT))
    for reason in ("wireguard.drop.replay", "wireguard.drop.forged"):
        world.wait_for_drops(before, reason, len(transport))
    peer = world.lab.user.peer("dev")
    assert peer is not None
    assert peer["path"]["via"] == f"{DEV}:{DEV_PORT}"


@hostile
def test_a_flood_of_handshakes_from_strangers_leaves_the_tunnel_its_time(world: World) -> None:
    before = world.dev_counters()
    with world.eve.udp("0.0.0.0") as sock:
        for seed in range(3000):
            sock.sendto(initiation(world.dev_key, seed), (DEV, DEV_PORT))
        world.lab.user.run(["ping", "-c", "5", "-i", "0.2", "-W", "2", world.dev_address])
    after = world.dev_counters()
    assert rises(before, after, "wireguard.drop.handshake_refused") > 0
    assert rises(before, after, "wireguard.cookie_replies_sent") > 0


# ---- a node's control socket


def control(node: Node) -> socket.socket:
    """A connection to a node's control socket, as root."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(node.host.path(node.socket)))  # blocking, since many at once have to queue
    connection.settimeout(10)
    return connection


@hostile
@pytest.mark.parametrize("line", LINES, ids=lambda line: repr(line[:40]))
def test_each_bad_request_on_the_control_socket_gets_one_error(world: World, line: bytes) -> None:
    with control(world.lab.dev) as connection, connection.makefile("rb") as answers:
        connection.sendall(line)
        error = json.loads(answers.readline())["error"]
    assert error["message"]
    assert error["code"] != "internal"


@hostile
def test_a_line_without_end_on_the_control_socket_is_refused_and_counted(world: World) -> None:
    with control(world.lab.dev) as connection:
        answer = answer_to(connection, b"x" * (2 << 20), then_end=False)
    assert not answer or json.loads(answer)["error"]["code"] == "too_long"
    assert world.dev_counters()["control.drop.too_long"] >= 1


@hostile
def test_more_callers_than_the_control_socket_serves_are_told_so(world: World) -> None:
    with ExitStack() as stack:
        callers = [stack.enter_context(control(world.lab.dev)) for _ in range(80)]
        answer = callers[-1].recv(4096)
        assert json.loads(answer)["error"]["code"] == "busy"
    until(lambda: world.lab.dev.status(), "the control socket to serve again")


# ---- a workspace's own ports, inside the tunnel


@hostile
@pytest.mark.parametrize(
    ("port", "counter"),
    [(SPEEDTEST_PORT, "speedtest.drop"), (NODE_API_PORT, "node_api.drop")],
    ids=["3", "4"],
)
def test_nonsense_on_the_ports_within_the_tunnel_is_counted(world: World, port: int, counter: str) -> None:
    words = [
        b"",
        b"\n",
        b"{}\n",
        b"nonsense\n",
        b"[" * 4000 + b"\n",
        noise(3000),
        noise(100_000),
        b'{"v":1}\n',
    ]
    before = world.dev_counters()
    for each in words:
        with tcp(world.lab.user.host, world.dev_address, port) as connection:
            assert len(answer_to(connection, each)) < 1000
    dropped = {name for name, value in world.dev_counters().items() if name.startswith(counter)}
    after = world.dev_counters()
    assert sum(rises(before, after, name) for name in dropped) >= len(words) - 1


@hostile
def test_a_connection_that_is_reset_within_the_tunnel_harms_nobody(world: World) -> None:
    linger_not = struct.pack("ii", 1, 0)
    for port in (SPEEDTEST_PORT, NODE_API_PORT):
        for _ in range(20):
            with tcp(world.lab.user.host, world.dev_address, port) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)


# ---- the server's ports


@hostile
@pytest.mark.parametrize("head", HEADS, ids=lambda head: repr(head[:30]))
def test_a_bad_request_to_the_server_is_refused_and_no_more(world: World, head: bytes) -> None:
    with tcp(world.eve, SERVER, HTTP_PORT) as connection:
        answer = answer_to(connection, head)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


@hostile
def test_nonsense_on_the_stun_port_is_counted_and_a_request_answered(world: World) -> None:
    before = world.server_counters()
    with world.eve.udp("0.0.0.0") as sock:
        for datagram in STUN_REQUESTS:
            sock.sendto(datagram, (SERVER, STUN_PORT))
        request = b"\0\x01\0\0" + STUN_COOKIE + noise(12)
        sock.sendto(request, (SERVER, STUN_PORT))
        response = sock.recv(1500)
    assert response[:2] == b"\x01\x01"
    assert response[8:20] == request[8:20]
    assert rises(before, world.server_counters(), "stun.drop.malformed") >= len(STUN_REQUESTS)


@hostile
def test_nonsense_after_the_upgrade_to_the_relay_ends_that_connection_alone(world: World) -> None:
    upgrade = b"GET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
    before = world.server_counters()
    words = [noise(3000), b"\x02\xff\xff\xff\xff" + noise(100), b"\x02\0\0\0\x40" + noise(64), b""]
    for each in words:
        with tcp(world.eve, SERVER, HTTP_PORT) as connection:
            answer = answer_to(connection, upgrade + each)
        assert answer.startswith(b"HTTP/1.1 101")
    after = world.server_counters()
    closed = [name for name in after if name.startswith("derp.close.")]
    assert sum(rises(before, after, name) for name in closed) >= len(words)
    assert rises(before, after, "derp.close.malformed") >= 2


class Stranger:
    """The handler of a relay link to which nothing may come."""

    def on_packets(self, sender: NodePublic, packets: list[bytes]) -> None:
        """Fails the test: no packets may come."""
        raise AssertionError("a stranger got packets")

    def on_peer_gone(self, key: NodePublic, reason: int) -> None:
        """Fails the test: no peer may be named."""
        raise AssertionError("a stranger heard of peers")


@hostile
def test_a_key_that_the_server_does_not_know_is_refused_by_the_relay(world: World) -> None:
    before = world.server_counters()
    node = DerpNode("999b", 999, SERVER, ipv4=SERVER, derp_port=HTTP_PORT, force_http=True)
    region = DerpRegion(999, "coder", "Coder", (node,))

    async def visit() -> None:
        with trio.fail_after(10):
            link = await DerpLink.connect(
                region, NodePrivate.generate(os.urandom), is_home=True, rng=os.urandom
            )
            await link.run(Stranger())

    with world.eve.network(), pytest.raises(ConnectionRefusedError, match="did not admit"):
        trio.run(visit)
    assert rises(before, world.server_counters(), "derp.close.not_admitted") == 1


@hostile
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: repr(message[:40]))
def test_a_node_that_does_not_keep_to_the_protocol_is_refused(world: World, message: str | bytes) -> None:
    mallory = mallorys_token(world)
    before = world.server_counters()
    with tcp(world.eve, SERVER, HTTP_PORT) as connection:
        assert websocket(connection, "/api/v1/coordinate", mallory).startswith(b"HTTP/1.1 101")
        said = list(websocket_messages(connection, websocket_frame(message)))
    assert all(json.loads(each)["type"] in ("challenge", "error") for each in said)
    if len(message) < 65536:  # what is longer ends the connection below the protocol
        after = world.server_counters()
        refused = [name for name in after if name.startswith("coordination.refused.")]
        assert sum(rises(before, after, name) for name in refused) == 1


def mallorys_token(world: World) -> str:
    """The token of a workspace that is allowed in and ill-behaved; created at the first call."""
    file: Path = world.eve.path("/run/token")
    if not file.exists():
        file.write_text(world.lab.server.create_workspace("mallory"), encoding="ascii")
    return file.read_text(encoding="ascii")


@hostile
def test_a_node_without_a_token_gets_no_websocket(world: World) -> None:
    for token in ("", "cdrw_wrong", "x" * 5000):
        with tcp(world.eve, SERVER, HTTP_PORT) as connection:
            assert websocket(connection, "/api/v1/coordinate", token).startswith(b"HTTP/1.1 401")


@hostile
def test_clients_that_never_finish_their_request_are_let_go_in_time(
    world: World, slow_heads: list[socket.socket]
) -> None:
    for connection in slow_heads:
        connection.settimeout(2 * HEAD_TIMEOUT)
        assert answer_to(connection, b"", then_end=False) == b""
    assert world.server_counters()["http.drop.slow_head"] >= N_SLOW


# ---- a second daemon in the first one's place


def ends_with_one_sentence(host: Host, argv: list[str], says: str) -> None:
    """A daemon that must not start: exit code 1, a sentence, a hint."""
    done = host.run(argv, check=False, timeout=20)
    assert done.returncode == Exit.FAILED, done.stderr
    complaint = [line for line in done.stderr.splitlines() if line.startswith("coderd: ")]
    assert len(complaint) == 1
    assert says in complaint[0]
    assert "Traceback" not in done.stderr


@hostile
@pytest.mark.parametrize(
    ("shared", "says"),
    [
        ("--interface", "interface named coder-dev"),
        ("--state-dir", "state directory"),
        ("--socket", "listens on"),
    ],
)
def test_a_second_daemon_that_shares_anything_with_the_first_does_not_start(
    world: World, shared: str, says: str
) -> None:
    dev = world.lab.dev
    options = {"--interface": "coder-two", "--state-dir": "/run/two-state", "--socket": "/run/two.sock"}
    first = {"--interface": dev.interface, "--state-dir": dev.state_dir, "--socket": dev.socket}
    options[shared] = first[shared]
    argv = ["coderd", "run", *(word for option in options.items() for word in option)]
    ends_with_one_sentence(dev.host, argv, says)


@hostile
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--state-dir", "/run/two-state"], "another program uses that port"),
        (["--http-address", "[::]:3333", "--stun-address", "off"], "state"),
        (["--http-address", "[::]:3333", "--state-dir", "/run/two-state"], "STUN"),
    ],
    ids=["port", "state", "stun"],
)
def test_a_second_server_that_shares_anything_with_the_first_does_not_start(
    world: World, options: list[str], says: str
) -> None:
    server = world.lab.server
    argv = ["coderd", "server", "--access-url", server.url, "--state-dir", server.state_dir, *options]
    ends_with_one_sentence(server.host, argv, says)


@hostile
def test_a_damaged_state_file_is_not_replaced_by_a_new_identity(world: World) -> None:
    host = world.eve
    host.path("/run/damaged").mkdir(exist_ok=True)
    host.path("/run/damaged/node.json").write_text('{"node_key": "privkey:', encoding="ascii")
    argv = ["coderd", "run", "--state-dir", "/run/damaged", "--socket", "/run/damaged/sock"]
    ends_with_one_sentence(host, argv, "is damaged")
    assert host.path("/run/damaged/node.json").read_text(encoding="ascii") == '{"node_key": "privkey:'


# ---- a server that is not there, and an interface that goes


def test_a_node_without_its_server_tries_for_ever_and_joins_when_it_comes() -> None:
    with Lab("no-nat") as lab:
        lab.server.start()
        token = lab.server.create_workspace("dev")
        assert lab.server.daemon is not None
        lab.server.daemon.stop()
        lab.dev.join_as_workspace(lab.server.url, token)

        def complaint() -> str:
            status = lab.dev.status()
            assert status is not None
            assert status["state"] == "connecting"
            return str((status["server"] or {}).get("error", ""))

        assert "Traceback" not in until(complaint, "dev to say why it is not connected")
        lab.server.start()
        lab.user.join_as_user(lab.server.url, lab.server.admin_token)
        lab.user.wait_for_peer("dev")


def test_a_server_that_dies_takes_no_tunnel_with_it_and_finds_its_nodes_again() -> None:
    with Lab("no-nat") as lab:
        lab.join()
        lab.user.wait_for_path("dev", "direct")
        assert lab.server.daemon is not None
        lab.server.daemon.kill()
        until(lambda: not is_connected(lab.user), "the user's node to notice")
        assert lab.user.pings("dev")
        status = lab.user.status()
        assert status is not None
        assert status["server"]["error"]
        lab.server.start()
        until(lambda: is_connected(lab.user), "the user to be connected again")
        until(lambda: is_connected(lab.dev), "dev to be connected again")
        assert lab.user.pings("dev")
        for node in (lab.user, lab.dev):
            assert node.daemon is not None
            assert "Traceback" not in node.daemon.output


def is_connected(node: Node) -> bool:
    """Whether a node's daemon has its server."""
    return bool((node.status() or {})["server"]["connected"])


@pytest.mark.parametrize("whose", ["user", "dev"])
def test_a_deleted_interface_ends_the_daemon_with_a_sentence(whose: str) -> None:
    with Lab("no-nat") as lab:
        lab.join()
        node: Node = getattr(lab, whose)
        node.host.ip(f"link del {node.interface}")
        assert node.daemon is not None
        assert node.daemon.wait(timeout=5) == Exit.FAILED
        assert f"coderd: the network interface {node.interface} was deleted" in node.daemon.output
        assert "Traceback" not in node.daemon.output
        node.restart()
        until(lambda: lab.user.pings("dev"), "the tunnel to be back", timeout=20)


def test_a_workspace_that_was_lost_is_told_from_one_that_was_deleted() -> None:
    with Lab("no-nat") as lab:
        lab.join()
        lab.dev.kill()
        until(lambda: not (lab.user.peer("dev") or {}).get("online"), "the user to see dev offline")
        ping = ["coderctl", "ping", "dev", "-c", "1", "-t", "200ms"]
        assert lab.user.host.run(ping, check=False).returncode == Exit.TIMED_OUT
        speedtest = lab.user.host.run(["coderctl", "speedtest", "dev"], check=False)
        assert speedtest.returncode == Exit.NO_PATH
        assert "dev is offline" in speedtest.stderr
        lab.server.coderctl("workspaces", "delete", "dev", "--yes")
        until(lambda: lab.user.peer("dev") is None, "the user to forget dev")
        assert lab.user.host.run(ping, check=False).returncode == Exit.NO_SUCH_WORKSPACE
