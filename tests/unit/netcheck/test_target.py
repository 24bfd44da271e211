"""STUN targets against a table made by the upstream function."""

import json
from pathlib import Path
from typing import Any

import pytest

from coderd.model.addresses import format_addr_port
from coderd.model.derpmap import DerpNode
from coderd.model.derpmap_json import parse_derp_map
from coderd.netcheck.target import Family, Resolved, stun_target

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/derpmap.json").read_text(encoding="utf-8"))


def node_of(fields: dict[str, Any]) -> DerpNode:
    region = {"RegionID": 1, "Nodes": [fields | {"RegionID": 1}]}
    return parse_derp_map({"Regions": {"1": region}}).regions[1].nodes[0]


def target_text(node: DerpNode, family: Family, resolved: Resolved) -> str:
    target = stun_target(node, family, resolved)
    return format_addr_port(target) if target is not None else ""


@pytest.mark.parametrize("case", VECTORS["stun_targets"], ids=lambda case: case["node"]["Name"])
def test_targets_are_upstreams(case: dict[str, Any]) -> None:
    node = node_of(case["node"])
    assert target_text(node, Family.V4, {}) == case["stun_v4"]
    assert target_text(node, Family.V6, {}) == case["stun_v6"]


def test_an_empty_field_means_the_first_resolved_address_of_the_family() -> None:
    node = DerpNode("1a", 1, "one.example")
    resolved = {"one.example": ("2001:db8::1", "192.0.2.1", "192.0.2.2")}
    assert stun_target(node, Family.V4, resolved) == ("192.0.2.1", 3478)
    assert stun_target(node, Family.V6, resolved) == ("2001:db8::1", 3478)
    assert stun_target(node, Family.V4, {}) is None


def test_a_host_name_that_is_an_address_needs_no_resolving() -> None:
    node = DerpNode("1a", 1, "192.0.2.1", stun_port=3479)
    assert stun_target(node, Family.V4, {}) == ("192.0.2.1", 3479)
    assert stun_target(node, Family.V6, {}) is None
