"""The mark of handshakes that ``coderd run`` keeps, so that peers believe it after a crash."""

import json
import time

import pytest
from lab import Lab, Node

pytestmark = [pytest.mark.netns, pytest.mark.slow]

TAI64_EPOCH = (1 << 62) + 10


def mark(node: Node) -> int:
    """The mark in a node's state, in seconds from now."""
    state = json.loads(node.host.path(f"{node.state_dir}/node.json").read_text())
    return int(state["tai64n_mark"][:16], 16) - TAI64_EPOCH - int(time.time())


def set_mark(node: Node, seconds: int) -> None:
    """Makes a node's last life one whose clock was ahead of ours."""
    file = node.host.path(f"{node.state_dir}/node.json")
    state = json.loads(file.read_text())
    state["tai64n_mark"] = f"{TAI64_EPOCH + int(time.time()) + seconds:016x}00000000"
    file.write_text(json.dumps(state))


def handshake(lab: Lab) -> None:
    """Something goes through the tunnel."""
    peer = lab.user.peer("dev")
    assert peer is not None
    lab.user.run(["ping", "-c", "1", "-W", "5", peer["address"]])


def test_the_mark_outlives_a_crash_and_a_clock_that_stepped_back() -> None:
    with Lab("no-nat") as lab:
        lab.join()
        handshake(lab)
        assert 1700 < mark(lab.user) < 3601, "ahead, so that it need not be written at every handshake"
        lab.user.kill()
        set_mark(lab.user, 86_400)
        lab.user.restart()
        lab.user.wait_for_peer("dev")
        handshake(lab)
        assert mark(lab.user) > 89_000, "timestamps went on where the last life's clock was"
        assert lab.user.daemon is not None
        assert lab.user.daemon.stop() == 0
        assert 86_000 < mark(lab.user) < 86_500, "what was sent last, and no more"
