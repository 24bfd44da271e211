"""Probe plans against vectors computed by the upstream functions."""

import json
from pathlib import Path
from typing import Any

import pytest

from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import parse_derp_map
from coderd.netcheck.plan import ProbeSet, full_plan, incremental_plan
from coderd.netcheck.report import Report
from coderd.netcheck.target import Family

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/netcheck.json").read_text(encoding="utf-8"))
DERP_MAP = parse_derp_map(VECTORS["probe_plan_derpmap"])
BOTH = (Family.V4, Family.V6)


def families_of(case: dict[str, Any]) -> list[Family]:
    wanted = ((Family.V4, case["have_v4"]), (Family.V6, case["have_v6"]))
    return [family for family, have in wanted if have]


def seconds(latencies: dict[str, int]) -> dict[int, float]:
    return {int(region_id): microseconds / 1e6 for region_id, microseconds in latencies.items()}


def last_report(last: dict[str, dict[str, int]]) -> Report:
    return Report(
        started_at=0.0,
        taken_at=1.0,
        region_latency=seconds(last["region_latency_us"]),
        region_v4_latency=seconds(last["region_v4_latency_us"]),
        region_v6_latency=seconds(last["region_v6_latency_us"]),
    )


def written_as_vector(plan: list[ProbeSet]) -> dict[str, list[dict[str, object]]]:
    return {
        f"region-{s.region_id}-v{s.family}": [
            {"node": probe.node.name, "proto": f"v{s.family}", "delay_us": round(probe.delay * 1e6)}
            for probe in s.probes
        ]
        for s in plan
    }


@pytest.mark.parametrize("case", VECTORS["probe_plans"], ids=lambda case: case["name"])
def test_plans_are_upstreams(case: dict[str, Any]) -> None:
    if "last" in case:
        plan = incremental_plan(DERP_MAP, families_of(case), last_report(case["last"]), case["home"])
    else:
        plan = full_plan(DERP_MAP, families_of(case))
    assert written_as_vector(plan) == case["plan"]


def one_region(*nodes: DerpNode, **settings: bool) -> DerpMap:
    return DerpMap({1: DerpRegion(1, "one", "One", nodes, **settings)})


def test_a_family_that_a_node_does_not_have_is_not_planned() -> None:
    plan = full_plan(one_region(DerpNode("1a", 1, "one.example", ipv6="none")), BOTH)
    assert [probe_set.family for probe_set in plan] == [Family.V4]


def test_a_test_node_is_probed_over_families_that_the_host_seems_to_lack() -> None:
    node = DerpNode("1a", 1, "one.example", ipv4="127.0.0.1", ipv6="none")
    assert [probe_set.family for probe_set in full_plan(one_region(node), ())] == [Family.V4]


def test_a_region_that_is_never_home_and_one_without_nodes_are_not_planned() -> None:
    node = DerpNode("1a", 1, "one.example")
    assert full_plan(one_region(node, no_measure_no_home=True), BOTH) == []
    assert full_plan(one_region(), BOTH) == []


def test_a_region_to_avoid_is_in_the_full_plan_and_later_only_while_it_is_home() -> None:
    derp_map = one_region(DerpNode("1a", 1, "one.example"), avoid=True)
    last = Report(0.0, 1.0, region_latency={1: 0.01})
    assert full_plan(derp_map, BOTH)
    assert not incremental_plan(derp_map, BOTH, last, home=0)
    assert incremental_plan(derp_map, BOTH, last, home=1)
