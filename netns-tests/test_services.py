"""TCP services of a workspace as people reach them: nc, OpenSSH over it, and forwarded ports.

::

    user ──[easy NAT]── core ──[easy NAT]── dev     directly: easy-nat; by the server's relay: udp-blocked
                          │                  ├─ 127.0.0.1 and [::1]: the services of this file
                        server               └─ 127.0.0.1:2222: sshd
"""

import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import Lab, Process, until
from people import NOBODY, as_user

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

MEGABYTE = 1_000_000

DIGEST, DIGEST_V6, ECHO, FAREWELL, SSH, NOTHING = 7001, 7002, 7003, 7004, 2222, 7099
"""Ports of dev; at each but the last something listens on one loopback address."""

SERVICES = f"""
import hashlib, socket, threading

def digest(connection):
    seen = hashlib.sha256()
    while data := connection.recv(1 << 16):
        seen.update(data)
    connection.sendall(seen.hexdigest().encode())

def echo(connection):
    while data := connection.recv(1 << 16):
        connection.sendall(data)

def farewell(connection):
    connection.sendall(b"bye")
    connection.shutdown(socket.SHUT_WR)
    seen = hashlib.sha256()
    while data := connection.recv(1 << 16):
        seen.update(data)
    print("after farewell", seen.hexdigest(), flush=True)

def serve(connection, service):
    with connection:
        service(connection)

def listen(address, port, service):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.create_server((address, port), family=family)
    def run():
        while True:
            threading.Thread(target=serve, args=(server.accept()[0], service), daemon=True).start()
    threading.Thread(target=run).start()

listen("127.0.0.1", {DIGEST}, digest)
listen("::1", {DIGEST_V6}, digest)
listen("127.0.0.1", {ECHO}, echo)
listen("127.0.0.1", {FAREWELL}, farewell)
print("serving", flush=True)
"""

ASK = """
import os, socket, sys

print("uid", os.getuid())
address, port, *requests = sys.argv[1:]
for request in requests:
    with socket.create_connection((address, int(port)), timeout=10) as stream:
        stream.sendall(request.encode() + b"\\n")
        answer = b""
        while data := stream.recv(1 << 16):
            answer += data
        print(answer.decode().strip())
"""
"""A program that says who it is, and one line for what a port answers to each request."""

SSHD_CONFIG = f"""
ListenAddress 127.0.0.1
Port {SSH}
HostKey /run/ssh/host_key
AuthorizedKeysFile /run/ssh/user_key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
Subsystem sftp internal-sftp
"""


class World:
    """A joined laboratory with the services of dev, and how its two nodes reach each other."""

    def __init__(self, lab: Lab, path: str) -> None:
        self.lab = lab
        self.path = path
        self.services = lab.dev.host.start(["python3", "-c", SERVICES], name="services of dev")
        self.services.wait_for("serving")

    @contextmanager
    def forwarded(self, *forwards: str) -> Iterator[Process]:
        """``coderctl port-forward dev FORWARDS...``, ready."""
        argv = ["coderctl", "port-forward", "dev", *forwards]
        with self.lab.user.host.start(argv, name="port-forward") as forwarding:
            forwarding.wait_for("Ready!")
            yield forwarding

    def connect(self, port: int, address: str = "127.0.0.1") -> socket.socket:
        """A TCP connection from the user's machine to itself, where a port is forwarded."""
        with self.lab.user.host.network():
            return socket.create_connection((address, port), timeout=30)


@pytest.fixture(scope="module", params=[("easy-nat", "direct"), ("udp-blocked", "relay")], ids=lambda p: p[1])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    topology, path = request.param
    with Lab(topology) as lab:
        lab.join()
        lab.user.wait_for_path("dev", path)
        yield World(lab, path)


@pytest.fixture(autouse=True)
def _path_stays(world: World) -> Iterator[None]:
    """What a test proves, it proves of this path."""
    yield
    assert world.lab.user.path_to("dev") == world.path


def noise(n_bytes: int, seed: int = 0) -> bytes:
    """Bytes that nothing compresses and nobody mistakes for others."""
    return random.Random(seed).randbytes(n_bytes)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side has ended its direction."""
    data = bytearray()
    while chunk := connection.recv(1 << 16):
        data += chunk
    return bytes(data)


def ask_digest(world: World, port: int, data: bytes, address: str = "127.0.0.1") -> str:
    """Send, close our half, read the answer: the service answers only once it has seen our end."""
    with world.connect(port, address) as connection:
        send_all(connection, data)
        return read_all(connection).decode()


def echoed(world: World, port: int, data: bytes) -> bytes:
    """Bytes sent and received at the same time, until both directions have ended."""
    with world.connect(port) as connection:
        sending = threading.Thread(target=send_all, args=(connection, data))
        sending.start()
        came = read_all(connection)
        sending.join()
    return came


def send_all(connection: socket.socket, data: bytes) -> None:
    """Send, and end our direction."""
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


# ---- forwarded ports


def test_several_ports_are_forwarded_to_either_loopback_of_the_workspace(world: World) -> None:
    with world.forwarded(str(DIGEST), f"8002:{DIGEST_V6}", f"127.0.0.9:8003:{DIGEST}") as forwarding:
        assert ask_digest(world, DIGEST, b"same port") == sha256(b"same port")
        assert ask_digest(world, DIGEST, b"by IPv6 here", "::1") == sha256(b"by IPv6 here")
        assert ask_digest(world, 8002, b"IPv6 loopback there") == sha256(b"IPv6 loopback there")
        assert ask_digest(world, 8003, b"own address", "127.0.0.9") == sha256(b"own address")
        with pytest.raises(ConnectionRefusedError):
            world.connect(8003)
        assert forwarding.output.count("Forwarding") == 3


def test_much_data_goes_both_ways_at_once_unharmed(world: World) -> None:
    data = noise(10 * MEGABYTE)
    with world.forwarded(f"8004:{ECHO}"):
        assert sha256(echoed(world, 8004, data)) == sha256(data)


def test_many_connections_at_once_keep_to_themselves(world: World) -> None:
    payloads = [noise(200_000 + seed, seed) for seed in range(24)]
    with world.forwarded(f"8005:{ECHO}"), ThreadPoolExecutor(len(payloads)) as pool:
        came = list(pool.map(lambda data: echoed(world, 8005, data), payloads))
    assert [sha256(each) for each in came] == [sha256(each) for each in payloads]


def test_a_service_that_has_ended_its_half_still_hears_the_other(world: World) -> None:
    data = noise(MEGABYTE, seed=world.path == "relay")
    with world.forwarded(f"8006:{FAREWELL}"), world.connect(8006) as connection:
        assert read_all(connection) == b"bye"
        send_all(connection, data)
        world.services.wait_for(f"after farewell {sha256(data)}")


def test_a_port_at_which_nothing_listens_gives_a_sentence_and_the_forwarding_goes_on(world: World) -> None:
    with world.forwarded(f"8007:{NOTHING}", f"8008:{DIGEST}") as forwarding:
        with world.connect(8007) as connection:
            assert connection.recv(1) == b""
        forwarding.wait_for(f"nothing listens on port {NOTHING} of the workspace")
        assert "Traceback" not in forwarding.output
        assert ask_digest(world, 8008, b"still here") == sha256(b"still here")


def test_a_local_port_that_is_taken_gives_a_sentence(world: World) -> None:
    with world.forwarded(f"8009:{DIGEST}"):
        second = world.lab.user.host.run(["coderctl", "port-forward", "dev", f"8009:{ECHO}"], check=False)
    assert second.returncode == 1
    assert "cannot listen on" in second.stderr
    assert "Traceback" not in second.stderr


# ---- nc


def test_whoever_goes_past_the_daemon_is_refused_by_the_workspace(world: World) -> None:
    """Any user of the machine can connect through its kernel.

    The secret is handed to those whom the control socket allows.

    Nobody is allowed there, and root, who is, has nothing for coming this way.
    """
    (dev,) = [peer for peer in world.lab.user.status()["peers"] if peer["name"].endswith("/dev")]
    requests = {
        4: [f'{{"v":1,"method":"dial","port":{ECHO}}}', '{"v":1,"method":"terminal","secret":"00"}'],
        3: ['{"version":2,"time":1000000000,"direction":0}'],
    }
    for as_whom in (as_user(NOBODY), []):
        for port, refusal in ((4, '"code":"no_proof"'), (3, "use coderctl")):
            argv = [*as_whom, "python3", "-c", ASK, dev["address"], str(port), *requests[port]]
            answers = world.lab.user.host.run(argv).stdout.splitlines()
            assert answers[0] == f"uid {NOBODY if as_whom else 0}"
            assert len(answers) == 1 + len(requests[port])
            assert all(refusal in answer for answer in answers[1:])


def test_nc_passes_the_end_of_its_input_on_and_waits_for_the_answer(world: World) -> None:
    answer = world.lab.user.coderctl("nc", "dev", str(DIGEST), input="from stdin")
    assert answer == sha256(b"from stdin")


def test_nc_with_an_empty_input_still_gets_an_answer(world: World) -> None:
    assert world.lab.user.coderctl("nc", "dev", str(DIGEST_V6), input="") == sha256(b"")


def test_nc_to_a_port_at_which_nothing_listens_ends_1_with_a_sentence(world: World) -> None:
    done = world.lab.user.host.run(["coderctl", "nc", "dev", str(NOTHING)], check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"coderctl: nothing listens on port {NOTHING} of the workspace"]
    assert done.stdout == ""


# ---- OpenSSH


@pytest.fixture(scope="module")
def ssh(world: World) -> Iterator[list[str]]:
    """A real sshd on dev's loopback, and the options that let the user's OpenSSH trust and reach it."""
    dev, user = world.lab.dev.host, world.lab.user.host
    make_keys(world)
    dev.path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    dev.path("/run/ssh/sshd_config").write_text(SSHD_CONFIG, encoding="utf-8")
    server = dev.start(["/usr/sbin/sshd", "-D", "-e", "-f", "/run/ssh/sshd_config"], name="sshd")
    server.wait_for("Server listening")
    options = {
        "ProxyCommand": f"coderctl nc %h {SSH}",
        "IdentityFile": "/run/ssh/user_key",
        "UserKnownHostsFile": "/run/ssh/known_hosts",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
    }
    assert not user.answers_tcp("127.0.0.1", SSH)
    with server:
        yield ["-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


def make_keys(world: World) -> None:
    """A host key that the user knows, and a user key that dev knows.

    Each private key is only where it belongs.
    """
    dev, user = world.lab.dev.host, world.lab.user.host
    for host, name in ((dev, "host_key"), (user, "user_key")):
        host.path("/run/ssh").mkdir(mode=0o700)
        host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"/run/ssh/{name}"])
    host_key = dev.path("/run/ssh/host_key.pub").read_text(encoding="ascii")
    user.path("/run/ssh/known_hosts").write_text(f"dev {host_key}", encoding="ascii")
    copy(user.path("/run/ssh/user_key.pub"), dev.path("/run/ssh/user_key.pub"))


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_openssh_runs_a_command_in_the_workspace(world: World, ssh: list[str]) -> None:
    out = world.lab.user.run(["ssh", *ssh, "dev", "echo hello from $(hostname); cat"], input="and back\n")
    assert out == "hello from dev\nand back\n"


def test_openssh_passes_the_commands_exit_code_on(world: World, ssh: list[str]) -> None:
    assert world.lab.user.host.run(["ssh", *ssh, "dev", "exit 37"], check=False).returncode == 37


def test_twenty_megabytes_by_scp_there_and_back_are_the_same(world: World, ssh: list[str]) -> None:
    user, dev = world.lab.user.host, world.lab.dev.host
    data = noise(20 * MEGABYTE, seed=20)
    user.path("/run/ssh/there").write_bytes(data)
    user.run(["scp", "-q", *ssh, "/run/ssh/there", "dev:/run/ssh/data"], timeout=60)
    assert sha256(dev.path("/run/ssh/data").read_bytes()) == sha256(data)
    user.run(["scp", "-q", *ssh, "dev:/run/ssh/data", "/run/ssh/back"], timeout=60)
    assert sha256(user.path("/run/ssh/back").read_bytes()) == sha256(data)


def test_an_openssh_that_is_killed_leaves_no_nc_behind(world: World, ssh: list[str]) -> None:
    session = world.lab.user.host.start(["ssh", *ssh, "dev", "echo there; exec sleep 3333"])
    session.wait_for("there")
    nc = int(Path(f"/proc/{session.pid}/task/{session.pid}/children").read_text(encoding="ascii"))
    assert b"coderctl\0nc\0dev" in command_line(nc)
    session.kill()
    until(lambda: not command_line(nc), "coderctl nc to end with its ssh")


def command_line(pid: int) -> bytes:
    """The arguments of a process; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
