"""The relay map of a running team.

Read again while all run, probed by its nodes, and without any way but the relay.

::

    user ── core ── dev        all with public addresses
             │
           server              its relay is also region 1 of the operator's map
"""

import json
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, until
from lab.gate import HTTP_PORT

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

MAP_FILE = "/run/own-derpmap.json"
ONLY_RELAYED = 10
DEAD_PORT = 9


def region(number: int, code: str, address: str, *, port: int, stun_port: int) -> dict[str, Any]:
    node = {
        "Name": f"{number}a",
        "RegionID": number,
        "HostName": address,
        "DERPPort": port,
        "STUNPort": stun_port,
        "ForceHTTP": True,
    }
    return {"RegionID": number, "RegionCode": code, "RegionName": code.title(), "Nodes": [node]}


def write_map(lab: Lab, *regions: dict[str, Any]) -> Path:
    """Put a map in the place of the old, in one piece, as an operator's tool would."""
    whole = {
        "HomeParams": {"RegionScore": {"999": 1_000_000}},  # so that any other is worth a move
        "Regions": {str(region["RegionID"]): region for region in regions},
    }
    path = lab.server.host.path(MAP_FILE)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(whole), encoding="utf-8")
    return new.rename(path)


def home_of(lab: Lab) -> list[str]:
    return [((node.status() or {}).get("home_region") or {}).get("code", "") for node in (lab.user, lab.dev)]


def test_nodes_follow_a_changed_map_to_another_home_and_name_its_dead_relay() -> None:
    with Lab("no-nat") as lab:
        address = lab.server.address
        dead = region(2, "dead", address, port=DEAD_PORT, stun_port=DEAD_PORT)
        write_map(lab, region(1, "near", address, port=HTTP_PORT, stun_port=3479), dead)
        lab.join(server_arguments=["--derp-config-path", MAP_FILE])
        until(lambda: home_of(lab) == ["near", "near"], "both to be at home in the map's region")

        write_map(lab, dead)
        until(lambda: home_of(lab) == ["coder", "coder"], "both to move to the server's own relay")
        until(lambda: lab.user.pings("dev"), "dev to be reached from there")
        found = lab.user.json("derp-map")
        assert sorted(found["map"]["Regions"]) == ["2", "999"]
        assert (found["home"], found["server_region"]) == (999, 999)

        done = lab.user.host.run(["coderctl", "derp-map", "--check", "--json"], check=False)
        assert done.returncode == 1, done.stderr
        checks = {check["node"]: check for check in json.loads(done.stdout)["checks"]}
        assert checks["999b"]["problems"] == checks["999stun1"]["problems"] == []
        assert checks["999b"]["derp_by"] == "upgrade"
        assert sorted(checks["2a"]["problems"]) == [
            f"STUN: no answer from {address}:{DEAD_PORT}",
            "TCP: Connection refused",
        ]


def test_where_direct_connections_are_blocked_all_goes_by_relay_and_why_says_so() -> None:
    with Lab("no-nat") as lab:
        with lab.capture(lab.user.host, "udp") as seen:
            lab.join(server_arguments=["--block-direct-connections"])
            assert lab.user.pings("dev")
            done = lab.user.host.run(["coderctl", "why", "dev", "--json"], check=False)
        assert done.returncode == ONLY_RELAYED, done.stdout + done.stderr
        found = json.loads(done.stdout)
        assert found["causes"][0]["cause"] == "blocked-by-policy"
        assert seen.packets() == []

        assert lab.server.daemon is not None
        lab.server.daemon.stop()
        lab.server.start()
        lab.user.wait_for_path("dev", "direct")
