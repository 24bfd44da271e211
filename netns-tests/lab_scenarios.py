"""What a tunnel lives through, and how long it is silent (``scripts/lab matrix --only 'kill-*'``).

Each scenario takes a laboratory whose two ends have settled on a path and stream small datagrams to each
other through the tunnel, 5 ms apart, both ways, beside one TCP connection. Then something breaks. The gap is
the longest silence at either end, counted from the instant at which things could have worked again: at once
for an address that changes, from its being up for a daemon, a link or a relay that was down (Python's own
start takes longer than all that follows it).
"""

import fnmatch
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from lab import Lab, LabError, Node, Process, until

CEILING = 3
"""Times the aim that a gap may last here, where everything shares one busy machine."""
DARK = 5.0
"""Seconds for which a link is down."""
WATCH = 4.0
"""Seconds for which arrivals are looked at after the fault."""
TALK_PORT, TCP_PORT = 5600, 5601

TALK = """
import socket, sys, threading, time
ours, theirs, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.bind(("::", port))
def speak():
    while True:
        try:
            sock.sendto(bytes(32), (theirs, port))
        except OSError:
            pass  # no interface, no route, no address: for now
        time.sleep(0.005)
threading.Thread(target=speak, daemon=True).start()
while True:
    sock.recv(64)
    print(f"{time.monotonic():.4f}", flush=True)
"""

ECHO = """
import socket, sys
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6)
print("listening", flush=True)
connection, _ = server.accept()
while data := connection.recv(4096):
    connection.sendall(data)
"""

ASK = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=90)
number = 0
while True:
    connection.sendall(b"%8d" % number)
    connection.recv(8, socket.MSG_WAITALL)
    print(f"answer {number}", flush=True)
    number += 1
    time.sleep(0.05)
"""


class Row(NamedTuple):
    """What became of one scenario."""

    scenario: str
    topology: str
    gap: float
    """Seconds of silence."""
    tcp_survived: bool


@dataclass(frozen=True)
class Scenario:
    """Something that happens to a laboratory."""

    says: str
    """One line for people."""
    topology: str
    path: str
    """What the two ends have settled on before."""
    aim: float
    """Seconds of silence that a wide-area network may see."""
    happen: Callable[[Lab], float]
    """Does it; returns the instant from which the gap counts."""


class Traffic:
    """A stream of datagrams each way, and one TCP connection."""

    def __init__(self, lab: Lab) -> None:
        user, dev = lab.user, lab.dev
        self._talkers = [
            self._talk(user, user.address, dev.address),
            self._talk(dev, dev.address, user.address),
        ]
        server = dev.host.start(["python3", "-c", ECHO, str(TCP_PORT)], name="TCP echo")
        server.wait_for("listening")
        self._tcp = user.host.start(["python3", "-c", ASK, dev.address, str(TCP_PORT)], name="TCP client")
        self._tcp.wait_for("answer 1\n")
        for talker in self._talkers:
            until(lambda t=talker: len(t.output) > 100, "datagrams both ways")  # type: ignore[misc]

    @staticmethod
    def _talk(node: Node, ours: str, theirs: str) -> Process:
        return node.host.start(
            ["python3", "-c", TALK, ours, theirs, str(TALK_PORT)], name=f"datagrams to {node.name}"
        )

    def stop(self) -> None:
        """Ends it all."""
        for process in (*self._talkers, self._tcp):
            process.stop()

    def gap(self, since: float) -> float:
        """The longest silence at either end since an instant, the present one included."""
        now = time.monotonic()
        return max(longest(arrivals(talker), since, now) for talker in self._talkers)

    def wait_for_both(self, since: float, *, timeout: float = 60.0) -> None:
        """Wait until each end has heard the other after an instant."""
        for talker in self._talkers:
            until(
                lambda t=talker: (arrivals(t) or [0.0])[-1] > since,  # type: ignore[misc]
                "datagrams to arrive again",
                timeout=timeout,
            )

    def tcp_goes_on(self, *, timeout: float = 20.0) -> bool:
        """Whether the connection answers once more."""
        answered = self._tcp.output.count("answer")
        try:
            until(lambda: self._tcp.output.count("answer") > answered + 1, "TCP to go on", timeout=timeout)
        except LabError:
            return False
        return self._tcp.is_running


def arrivals(talker: Process) -> list[float]:
    """The instants at which datagrams arrived."""
    return [float(line) for line in talker.output.splitlines(keepends=True) if line.endswith("\n")]


def longest(times: Sequence[float], since: float, now: float) -> float:
    """The longest interval without an arrival."""
    marks = [since, *(at for at in times if since <= at <= now), now]
    return max(after - before for before, after in pairwise(marks))


# ---- what happens


def roam(lab: Lab) -> float:
    """The user's machine gets another address on its LAN."""
    lab.user.host.ip(
        "address del 10.0.1.2/24 dev eth0",
        "address add 10.0.1.77/24 dev eth0",
        "route replace 0.0.0.0/0 via 10.0.1.1",
    )
    return time.monotonic()


def link_down(lab: Lab) -> float:
    """Somebody trips over the user's cable, and plugs it in again."""
    lab.user.host.ip("link set eth0 down")
    time.sleep(DARK)
    lab.user.host.ip("link set eth0 up", "route replace 0.0.0.0/0 via 10.0.1.1")
    return time.monotonic()


def restart_server(lab: Lab) -> float:
    """The server, and the relay in it, are killed and start again; counted from the kill."""
    assert lab.server.daemon is not None
    killed_at = time.monotonic()
    lab.server.daemon.kill()
    lab.server.start()
    return killed_at


def restart_relay(lab: Lab) -> float:
    """The same; counted from when the relay takes connections again."""
    restart_server(lab)
    return time.monotonic()


def kill_user(lab: Lab) -> float:
    """The user's daemon is killed, and started again at once."""
    return _kill(lab.user)


def kill_dev(lab: Lab) -> float:
    """The workspace's daemon is killed, and started again at once."""
    return _kill(lab.dev)


def _kill(node: Node) -> float:
    node.kill()
    node.restart()
    return time.monotonic()


def forget_mappings(lab: Lab) -> float:
    """Both routers lose every UDP mapping, as one that restarts or runs full does."""
    for router in lab.internet.routers.values():
        router.run(["conntrack", "-D", "-p", "udp"], check=False)
    return time.monotonic()


SCENARIOS: dict[str, Scenario] = {
    "roam": Scenario("another address mid-transfer", "easy-nat", "direct", 0.4, roam),
    "link-down": Scenario(
        "the link is down for 5 s; from its being up", "easy-nat", "direct", 1.0, link_down
    ),
    "server-restart": Scenario(
        "the server restarts; from its end", "easy-nat", "direct", 0.1, restart_server
    ),
    "relay-restart": Scenario(
        "server and relay restart; from their being up", "hard-nat-both", "relay", 1.0, restart_relay
    ),
    "kill-user": Scenario(
        "the user's daemon is killed; from its being up again", "easy-nat", "direct", 1.0, kill_user
    ),
    "kill-dev": Scenario("the workspace's daemon is killed; the same", "easy-nat", "direct", 1.0, kill_dev),
    "kill-dev-relayed": Scenario("the same where all is relayed", "hard-nat-both", "relay", 1.0, kill_dev),
    "mapping-expiry": Scenario(
        "both routers forget all mappings", "easy-nat", "direct", 1.0, forget_mappings
    ),
}


def run_scenarios(only: str | None = None) -> Iterator[Row]:
    """Go through those whose names match a pattern; scenarios of one topology share a laboratory."""
    wanted = [name for name in SCENARIOS if only is None or fnmatch.fnmatch(name, only)]
    for topology in dict.fromkeys(SCENARIOS[name].topology for name in wanted):
        with Lab(topology) as lab:
            lab.join()
            for name in wanted:
                if SCENARIOS[name].topology == topology:
                    yield measure(lab, name)


def measure(lab: Lab, name: str) -> Row:
    """Let one thing happen to a laboratory, and look at what arrives."""
    scenario = SCENARIOS[name]
    with traffic(lab) as streams:
        settle(lab, scenario.path)
        since = scenario.happen(lab)
        streams.wait_for_both(since)
        time.sleep(WATCH)  # a gap may come late: a path may be lost again
        row = Row(name, scenario.topology, streams.gap(since), streams.tcp_goes_on())
        settle(lab, scenario.path)
        return row


def settle(lab: Lab, path: str) -> None:
    """Wait until both ends use this kind of path."""
    until(lambda: kinds(lab) == {path}, f"both ends to use a {path} path", timeout=40)


@contextmanager
def traffic(lab: Lab) -> Iterator[Traffic]:
    """Streams both ways, for as long as the ``with`` lasts."""
    lab.user.wait_for_peer("dev", timeout=40)
    streams = Traffic(lab)
    try:
        yield streams
    finally:
        streams.stop()


# ---- the server is gone


def restart_both_without_server(lab: Lab) -> float:
    """Kill both daemons, start them again.

    Seconds from their start until the tunnel is direct and carries packets.
    """
    for node in (lab.user, lab.dev):
        node.kill()
    for node in (lab.user, lab.dev):
        node.restart()
    restarted_at = time.monotonic()
    until(lambda: kinds(lab) == {"direct"}, "the tunnel to be direct again", timeout=15)
    return time.monotonic() - restarted_at


def kinds(lab: Lab) -> set[str]:
    """How each end reaches the other; asked of the control sockets, since that is quick."""
    return {
        str(peer["path"]["kind"])
        for node in (lab.user, lab.dev)
        for peer in node.ask("status").get("peers", [])
    }


def is_good(row: Row) -> bool:
    """Whether a gap stayed under its ceiling, and TCP alive."""
    return row.gap <= CEILING * SCENARIOS[row.scenario].aim and row.tcp_survived


def line(row: Row) -> str:
    """One row for people."""
    tcp = "TCP lives" if row.tcp_survived else "TCP DIED"
    aim = SCENARIOS[row.scenario].aim
    return f"{row.scenario:<18} {row.topology:<14} {row.gap:6.2f} s (aim {aim:g} s)  {tcp}"
