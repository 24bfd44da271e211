"""Policy reaches data that flows: paths change, and a running iperf3 stops when the right to meet ends.

::

    bob's user ──[easy NAT]── core ──[easy NAT]── dev, the admin's, shared with bob
                               │
                             server
"""

import time
from collections.abc import Iterator

import pytest
from lab import Lab, Process, until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.alone("measures how soon a stream ends"),
]

CEILING = 2.0
"""Seconds from the server's acknowledgement to the last byte that the workspace's interface gets."""

WATCH = """
import sys, time
def received():
    for line in open("/proc/net/dev"):
        name, _, counts = line.strip().partition(":")
        if name == sys.argv[1]:
            return int(counts.split()[0])
    return 0
last = received()
print("watching", flush=True)
while True:
    time.sleep(0.01)
    now = received()
    if now != last:
        print(f"{time.monotonic():.4f} {now}", flush=True)
        last = now
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Bob's machine, and a workspace that the admin shares with him."""
    with Lab("easy-nat") as lab:
        lab.join_dev()
        bob = lab.server.coderctl("users", "create", "bob").strip()
        lab.server.share("dev", "bob", bob)
        lab.user.host.environment["BOBS_TOKEN"] = bob
        lab.user.host.environment["CODER_URL"] = lab.server.url
        lab.user.join_as_user(lab.server.url, bob)
        lab.user.wait_for_peer("admin/dev")
        lab.user.wait_for_path("dev", "direct")
        yield lab


def start_iperf3(lab: Lab) -> tuple[Process, Process, Process]:
    """A stream from bob's machine to dev, and a watcher of what dev's interface gets."""
    server = lab.dev.host.start(["iperf3", "-s", "-1", "--forceflush"], name="iperf3 server")
    server.wait_for("listening")
    watcher = lab.dev.host.start(["python3", "-c", WATCH, lab.dev.interface], name="watcher")
    watcher.wait_for("watching")
    peer = lab.user.peer("dev")
    assert peer is not None
    client = lab.user.host.start(["iperf3", "-c", peer["address"], "-t", "60"], name="iperf3 client")
    until(lambda: arrivals(watcher)[-1:] > [time.monotonic() - 0.2], "bytes to arrive")
    return client, watcher, server


def arrivals(watcher: Process) -> list[float]:
    """The instants at which bytes arrived."""
    return [float(line.split()[0]) for line in watcher.output.splitlines()[1:] if " " in line]


def stops(lab: Lab, *revocation: str) -> None:
    """A running transfer ends soon after the server has acknowledged this."""
    client, watcher, server = start_iperf3(lab)
    lab.server.coderctl(*revocation)
    acknowledged_at = time.monotonic()
    until(
        lambda: time.monotonic() - max(arrivals(watcher)[-1], acknowledged_at) > 1.0,
        "silence",
        timeout=10,
    )
    assert arrivals(watcher)[-1] - acknowledged_at < CEILING
    for process in (client, watcher, server):
        process.stop()


def test_policy_is_obeyed_while_data_flows(lab: Lab) -> None:
    lab.server.coderctl("workspaces", "set", "dev", "--path", "relay-only")
    lab.user.wait_for_path("dev", "relay", timeout=10)
    lab.server.coderctl("workspaces", "set", "dev", "--path", "direct")
    lab.user.wait_for_path("dev", "direct", timeout=20)
    stops(lab, "workspaces", "cut", "dev", "bob")
    lab.server.share("dev", "bob", lab.user.host.environment["BOBS_TOKEN"])
    lab.user.wait_for_peer("admin/dev")
    stops(lab, "workspaces", "delete", "dev", "--yes")
