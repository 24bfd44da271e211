"""``coderctl why`` names the deciding cause on each topology, and follows the network as it changes.

::

    user ──[router]── core ──[router]── dev      the routers' NATs and firewalls are what differs
                        │
                      server
"""

import json
import signal
from dataclasses import replace
from typing import Any

import pytest
from lab import TOPOLOGIES, Host, Lab, Topology, until
from lab.nat import NO_UDP
from lab.topology import EASY, HARD, Site

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

ONLY_RELAYED = 10
NO_PATH = 11
NO_SUCH_WORKSPACE = 5
DEAF = """
table inet deaf {{
    chain input {{
        type filter hook input priority filter
        iifname "{interface}" tcp dport 4 drop
    }}
}}"""
"""No question to the node API gets in."""
UDP_BLOCKED = Site(EASY, passes_udp=False)


def why(host: Host, code: int) -> dict[str, Any]:
    """What ``why dev --json`` says, having ended with this code."""
    done = host.run(["coderctl", "why", "dev", "--json"], check=False)
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def first_cause(found: dict[str, Any]) -> tuple[str, str]:
    return found["causes"][0]["cause"], found["causes"][0]["side"]


def why_caused(host: Host, expected: tuple[str, str]) -> dict[str, Any]:
    """What ``why dev --json`` says of a relayed path.

    Up to three times, until the expected cause comes first.

    Where the machine is overloaded a STUN answer may come too late; then a fact is missing, and ``why`` names
    what is likely without it.
    """
    for _ in range(3):
        found = why(host, ONLY_RELAYED)
        if first_cause(found) == expected:
            break
    return found


def test_a_direct_path_needs_no_reason() -> None:
    with Lab("easy-nat") as lab:
        lab.join()
        lab.user.wait_for_path("dev", "direct")
        found = why(lab.user.host, 0)
        assert found["path"]["kind"] == "direct"
        assert found["causes"] == []
        assert found["this"]["udp"] is found["peer"]["udp"] is True
        assert "is reached directly at 203.0.113.2:" in lab.user.coderctl("why", "dev")
        done = lab.user.host.run(["coderctl", "why", "nonsense"], check=False)
        assert done.returncode == NO_SUCH_WORKSPACE
        asked_back = lab.dev.json("why", "admin/user")
        assert asked_back["peer"] is None
        assert "device" in asked_back["not_asked"]


@pytest.mark.parametrize(
    ("topology", "cause", "side", "sentence"),
    [
        pytest.param(
            TOPOLOGIES["hard-nat-both"], "hard-nat", "both", "are behind hard NATs", id="hard-nat-both"
        ),
        pytest.param(
            TOPOLOGIES["hard-strict"],
            "hard-nat",
            "this",
            "This machine is behind a hard NAT",
            id="hard-strict",
        ),
        pytest.param(
            Topology("", user=TOPOLOGIES["easy-nat"].user, dev=TOPOLOGIES["hard-strict"].user),
            "hard-nat",
            "peer",
            "dev is behind a hard NAT",
            id="hard-peer",
        ),
        pytest.param(
            TOPOLOGIES["udp-blocked"], "no-udp", "both", "Neither this machine nor", id="udp-blocked-both"
        ),
        pytest.param(
            replace(TOPOLOGIES["easy-nat"], user=UDP_BLOCKED),
            "no-udp",
            "this",
            "This machine gets no UDP through",
            id="udp-blocked-here",
        ),
        pytest.param(
            TOPOLOGIES["large-swallowed"],
            "small-mtu",
            "this",
            "packets of 1340 bytes, which a direct path needs, vanish on the way",
            id="large-swallowed",
        ),
        pytest.param(
            TOPOLOGIES["server-masked"],
            "server-behind-nat",
            "network",
            "The server is behind a NAT that hides its clients' addresses",
            id="server-masked",
        ),
        pytest.param(
            TOPOLOGIES["server-balanced"],
            "server-behind-nat",
            "network",
            "The server is behind a NAT or load balancer, and no STUN request has ever come through",
            id="server-balanced",
        ),
    ],
)
def test_the_deciding_cause_is_named(topology: Topology, cause: str, side: str, sentence: str) -> None:
    with Lab(topology) as lab:
        lab.join()
        found = why_caused(lab.user.host, (cause, side))
        assert found["path"]["kind"] == "relay"
        assert found["peer"] is not None
        assert first_cause(found) == (cause, side)
        assert sentence in found["causes"][0]["sentence"]


def test_a_server_without_stun_is_the_cause() -> None:
    with Lab("easy-nat") as lab:
        lab.join(server_arguments=["--stun-address", "off"])
        found = why(lab.user.host, ONLY_RELAYED)
        assert first_cause(found) == ("no-stun", "network")
        assert "offers no STUN" in found["causes"][0]["sentence"]


def test_a_server_that_forbids_direct_paths_is_the_cause() -> None:
    with Lab("easy-nat") as lab:
        lab.join(server_arguments=["--block-direct-connections", "--derp-force-websockets"])
        found = why(lab.user.host, ONLY_RELAYED)
        assert first_cause(found) == ("blocked-by-policy", "network")
        assert "allows this machine and admin/dev the relay only" in found["causes"][0]["sentence"]
        (note,) = found["notes"]
        assert note.startswith('This machine reaches relay "coder" by WebSocket, because ')
        assert found["this"]["websocket"] == found["peer"]["websocket"] != ""


def test_what_nothing_explains_and_who_could_not_be_asked_are_said_to_be_so() -> None:
    with Lab("easy-nat") as lab:
        lab.block_udp()
        lab.join()
        lab.dev.host.nft(DEAF.format(interface=lab.dev.interface))
        found = why(lab.user.host, ONLY_RELAYED)
        assert first_cause(found) == ("unexplained", "network")
        assert "admin/dev could not be asked" in found["causes"][0]["sentence"]
        assert (found["peer"], found["not_asked"]) == (None, "it did not answer in time")
        assert lab.dev.daemon is not None
        lab.dev.daemon.signal(signal.SIGSTOP)
        try:
            found = why(lab.user.host, NO_PATH)
        finally:
            lab.dev.daemon.signal(signal.SIGCONT)
        assert first_cause(found) == ("no-answer", "peer")
        assert "does not answer by any path" in found["causes"][0]["sentence"]


def test_a_small_mtu_is_the_cause() -> None:
    with Lab("easy-nat") as lab:
        lab.user.host.ip("link set eth0 mtu 1300")
        lab.join()
        found = why(lab.user.host, ONLY_RELAYED)
        assert first_cause(found) == ("small-mtu", "this")
        assert "may have 1300 bytes, and a direct path needs 1340" in found["causes"][0]["sentence"]


def test_who_is_offline_and_who_has_no_relay_is_said() -> None:
    with Lab("udp-blocked") as lab:
        lab.join()
        assert lab.server.daemon is not None
        lab.server.daemon.kill()
        found = why(lab.user.host, NO_PATH)
        assert "no-relay" in [cause["cause"] for cause in found["causes"]]
        assert "connected to no relay" in str(found["causes"])
        assert found["peer"] is None
    with Lab("easy-nat") as lab:
        lab.join()
        assert lab.dev.daemon is not None
        lab.dev.daemon.stop()
        until(lambda: not (lab.user.peer("dev") or {}).get("online"), "dev to be offline")
        found = why(lab.user.host, NO_PATH)
        assert first_cause(found) == ("offline", "peer")
        assert "dev is offline" in found["causes"][0]["sentence"]


def test_the_verdict_follows_the_firewall_within_ten_seconds() -> None:
    with Lab("easy-nat") as lab:
        lab.join()
        lab.user.wait_for_path("dev", "direct")
        assert why(lab.user.host, 0)["causes"] == []

        def verdict() -> tuple[str, str] | None:
            done = lab.user.host.run(["coderctl", "why", "dev", "--json"], check=False)
            found = json.loads(done.stdout)
            return first_cause(found) if found["causes"] else None

        lab.internet.routers["user"].nft(NO_UDP)
        until(lambda: verdict() == ("no-udp", "this"), "why to name the firewall", timeout=10)
        lab.internet.routers["user"].nft("delete table inet no_udp")
        until(lambda: verdict() is None, "why to see a direct path", timeout=10)
        for site in ("user", "dev"):
            lab.internet.change_router(site, Site(HARD))
        until(lambda: verdict() == ("hard-nat", "both"), "why to name the hard NATs", timeout=10)
        for site in ("user", "dev"):
            lab.internet.change_router(site, Site(EASY))
        until(lambda: verdict() is None, "why to see a direct path again", timeout=10)
