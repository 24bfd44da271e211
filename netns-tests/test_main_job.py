"""The main job as a user lives it: two machines behind NATs, one tunnel, and what happens when things break.

::

    user ──[easy NAT]── core ──[easy NAT]── dev            server: relay, STUN, coordination
"""

import json
import re
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from lab import Lab, Process, ProgramFailed, until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.alone("measures how soon a daemon is back, and moves data in bulk"),
]

MEGABYTE = 1_000_000

SINK = """
import socket, sys, time
server = socket.create_server((sys.argv[1], 5555), family=socket.AF_INET6)
print("listening", flush=True)
connection, _ = server.accept()
total = said_at = 0
while data := connection.recv(1 << 20):
    total += len(data)
    now = time.monotonic()
    if now - said_at > 0.02:
        said_at = now
        print(f"{now:.4f} {total}", flush=True)
"""

SOURCE = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 5555), timeout=60)
print("connected", flush=True)
block = bytes(65536)
while True:
    connection.sendall(block)
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("easy-nat") as lab:
        lab.join()
        yield lab


def address_of(lab: Lab, name: str = "dev") -> str:
    peer = lab.user.peer(name)
    assert peer is not None
    return str(peer["address"])


def start_stream(lab: Lab) -> tuple[Process, Process]:
    """One TCP stream from the user to dev, outside the daemons, for as long as it is left alone."""
    address = address_of(lab)
    sink = lab.dev.host.start(["python3", "-c", SINK, address], name="sink")
    sink.wait_for("listening")
    source = lab.user.host.start(["python3", "-c", SOURCE, address], name="source")
    source.wait_for("connected")
    return sink, source


def received(sink: Process) -> int:
    """Bytes of the stream that have arrived."""
    lines = sink.output.splitlines()
    return int(lines[-1].split()[1]) if len(lines) > 1 else 0


def arrivals(sink: Process) -> list[float]:
    """The instants at which bytes arrived."""
    return [float(line.split()[0]) for line in sink.output.splitlines()[1:] if " " in line]


def relayed_bytes(lab: Lab) -> int:
    """What the server says it has relayed so far."""
    return int(json.loads(lab.server.coderctl("debug", "counters", "--json"))["relay_bytes"])


def reported_paths(lab: Lab) -> dict[tuple[str, str], str]:
    """What the two ends have told the server of their paths whose round trip is known."""
    rows = json.loads(lab.server.coderctl("paths", "--json"))
    return {
        (row["node"].partition("/")[2], row["peer"].partition("/")[2]): row["path"]
        for row in rows
        if row["rtt"] is not None
    }


def test_one_stream_moves_from_the_relay_to_the_direct_path() -> None:
    with Lab("easy-nat") as lab:
        lab.block_udp()
        lab.join()
        sink, source = start_stream(lab)
        before = relayed_bytes(lab)
        until(lambda: received(sink) >= 5 * MEGABYTE, "5 MB by the relay", timeout=30)
        assert relayed_bytes(lab) - before >= 5 * MEGABYTE
        assert lab.user.path_to("dev") == "relay"
        lab.allow_udp()
        lab.user.wait_for_path("dev", "direct")
        start = received(sink)
        until(lambda: received(sink) - start >= 5 * MEGABYTE, "5 MB directly, in the same stream", timeout=30)
        quiet_from = relayed_bytes(lab)
        start = received(sink)
        time.sleep(1)  # the claim is about a second, so a second is what is measured
        assert received(sink) > start
        assert relayed_bytes(lab) == quiet_from
        assert source.is_running
        until(
            lambda: reported_paths(lab) == {("user", "dev"): "direct", ("dev", "user"): "direct"},
            "both to tell",
        )


def test_a_bulk_transfer_crosses_the_walls_in_batches(lab: Lab) -> None:
    lab.user.wait_for_path("dev", "direct")
    sink, source = start_stream(lab)
    until(lambda: received(sink) >= 100 * MEGABYTE, "100 MB", timeout=60)
    source.stop()
    sender, receiver = lab.user.status(), lab.dev.status()
    assert sender is not None
    assert receiver is not None
    assert sender["batches"]["segments_per_tun_read"] >= 16
    assert sender["batches"]["datagrams_per_sendmsg"] >= 16
    assert receiver["batches"]["datagrams_per_recvmsg"] >= 16
    assert receiver["batches"]["segments_per_tun_write"] >= 16


@pytest.mark.parametrize("victim", ["user", "dev"])
def test_a_killed_daemon_is_back_within_seconds_and_the_stream_goes_on(lab: Lab, victim: str) -> None:
    lab.user.wait_for_path("dev", "direct")
    sink, source = start_stream(lab)
    until(lambda: received(sink) >= 5 * MEGABYTE, "the stream to flow", timeout=30)
    node = getattr(lab, victim)
    node.kill()
    node.restart()
    restarted = time.monotonic()
    before = received(sink)
    until(lambda: received(sink) >= before + 5 * MEGABYTE, "the same stream to go on", timeout=20)
    assert time.monotonic() - restarted < 20
    assert source.is_running


def test_a_direct_transfer_does_not_notice_that_the_server_died(lab: Lab) -> None:
    lab.user.wait_for_path("dev", "direct")
    sink, _ = start_stream(lab)
    until(lambda: received(sink) >= 5 * MEGABYTE, "the stream to flow", timeout=30)
    assert lab.server.daemon is not None
    lab.server.daemon.kill()
    killed = received(sink)
    until(lambda: received(sink) >= killed + 50 * MEGABYTE, "the stream to go on", timeout=30)
    times = arrivals(sink)
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) < 0.2
    status = lab.user.status()
    assert status is not None
    assert not status["server"]["connected"]
    assert status["server"]["error"]


def test_a_speed_test_says_which_path_carried_it(lab: Lab) -> None:
    lab.user.wait_for_path("dev", "direct")
    out = lab.user.coderctl("speedtest", "dev", "-t", "2s", timeout=60)
    lines = out.splitlines()
    assert re.fullmatch(r"(<1|\d+)ms via direct \(203\.0\.113\.2:\d+\)", lines[0])
    assert lines[1] == "Starting a 2s download test..."
    assert lines[2].split() == ["INTERVAL", "TRANSFER", "BANDWIDTH"]
    assert set(lines[-2]) == {"-"}
    assert len(lines[-2]) == len(lines[-1])
    assert lines[-1].startswith("0.00-2.0")
    relayed = json.loads(lab.user.coderctl("speedtest", "dev", "-t", "1s", "--relay", "--json", timeout=60))
    assert relayed["path"]["kind"] == "relay"
    assert relayed["path"]["via"] == "coder"


def test_up_down_and_logout_by_hand(lab: Lab) -> None:
    lab.user.coderctl("down")
    assert (lab.user.status() or {})["state"] == "down"
    with pytest.raises(ProgramFailed) as failed:
        lab.user.coderctl("ping", "dev", "-c", "1")
    assert failed.value.code == 11
    lab.user.coderctl("up")
    lab.user.wait_for_peer("dev")
    lab.user.coderctl("logout")
    assert (lab.user.status() or {})["state"] == "logged-out"
    with pytest.raises(ProgramFailed) as failed:
        lab.user.coderctl("ping", "dev", "-c", "1")
    assert failed.value.code == 4
