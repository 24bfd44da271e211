"""The path order against the cases of ``better``, and against its known circle."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from coderd.magicsock.path import PathQuality, is_improvement, path_score
from coderd.model.addresses import parse_addr_port

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "magicsock.json").read_text())
CASES = [case for case in VECTORS["better_addr"] if not (case["a"]["vni"] or case["b"]["vni"])]
"""The rest are about relays over UDP, of which there are none here."""


def quality(case: dict[str, object]) -> PathQuality | None:
    if not case["addr"]:
        return None
    latency = int(str(case["latency_ns"])) / 1e9
    return PathQuality(parse_addr_port(str(case["addr"])), latency, int(str(case["wire_mtu"])))


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_an_improvement_is_what_the_pairwise_rule_calls_better(case: dict[str, Any]) -> None:
    a, b = quality(case["a"]), quality(case["b"])
    assert (a is not None and is_improvement(a, b)) == case["a_better"]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_no_pair_is_an_improvement_both_ways(case: dict[str, Any]) -> None:
    a, b = quality(case["a"]), quality(case["b"])
    if a is not None and b is not None:
        assert not (is_improvement(a, b) and is_improvement(b, a))


def test_the_pairwise_rules_circle_is_none_here() -> None:
    public = PathQuality(("198.51.100.1", 1), 0.054)
    private = PathQuality(("10.0.0.1", 1), 0.068)
    private_v6 = PathQuality(("fd00::1", 1), 0.076)
    for one, two, three in permutations((public, private, private_v6)):
        assert not (is_improvement(one, two) and is_improvement(two, three) and is_improvement(three, one))
    assert min((public, private, private_v6), key=path_score) == private_v6
