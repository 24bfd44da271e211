"""The DERP map's JSON against what upstream's own encoder writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json, node_to_json, parse_derp_map

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/derpmap.json").read_text(encoding="utf-8"))
NODE = {"Name": "1a", "RegionID": 1, "HostName": "one.example"}


def with_node(**fields: object) -> dict[str, Any]:
    return {"Regions": {"1": {"RegionID": 1, "Nodes": [NODE | fields]}}}


def test_the_example_is_written_byte_for_byte() -> None:
    derp_map = parse_derp_map(VECTORS["derpmap"])
    assert json.dumps(derp_map_to_json(derp_map), separators=(",", ":")) == VECTORS["compact_json"]
    assert parse_derp_map(json.loads(VECTORS["compact_json"])) == derp_map


def test_the_example_is_read() -> None:
    derp_map = parse_derp_map(VECTORS["derpmap"])
    assert derp_map.region_score == {900: 0.5}
    assert derp_map.omit_default_regions
    assert [node.name for node in derp_map.regions[900].nodes] == ["900a", "900b"]
    assert derp_map.regions[900].nodes[1].derp_port == 8443
    assert derp_map.regions[901].no_measure_no_home
    assert derp_map.regions[901].nodes[0].stun_port == -1


def lowered(value: object) -> object:
    if isinstance(value, dict):
        return {name.lower(): lowered(item) for name, item in value.items()}
    return [lowered(item) for item in value] if isinstance(value, list) else value


def test_names_match_in_any_case() -> None:
    assert parse_derp_map(lowered(VECTORS["derpmap"])) == parse_derp_map(VECTORS["derpmap"])


def test_absent_null_and_zero_are_alike_and_the_unknown_is_ignored() -> None:
    plain = parse_derp_map(with_node())
    assert (
        parse_derp_map(with_node(STUNPort=None, STUNOnly=False, IPv4="", DERPPort=0, Future={"a": 1}))
        == plain
    )
    assert parse_derp_map({"HomeParams": None, "Regions": None}) == parse_derp_map({}) == DerpMap()
    assert parse_derp_map({"Regions": {"1": None}}) == DerpMap()
    assert parse_derp_map({"HomeParams": {"RegionScore": None}}) == DerpMap()


def test_our_own_field_says_that_the_relay_is_reached_by_plain_http() -> None:
    (node,) = parse_derp_map(with_node(ForceHTTP=True)).regions[1].nodes
    assert node.force_http
    assert node_to_json(node) == NODE | {"ForceHTTP": True}


def test_our_own_field_says_that_every_relay_is_reached_by_websocket() -> None:
    derp_map = parse_derp_map({"ForceWebSockets": True})
    assert derp_map == DerpMap(force_websockets=True)
    assert derp_map_to_json(derp_map) == {"Regions": {}, "ForceWebSockets": True}


def test_a_region_without_nodes_is_written_with_an_empty_list() -> None:
    derp_map = DerpMap({2: DerpRegion(2, "b", "B"), 1: DerpRegion(1, "a", "A", (DerpNode("1a", 1, "h"),))})
    value = derp_map_to_json(derp_map)
    regions = value["Regions"]
    assert isinstance(regions, dict)
    assert list(regions) == ["1", "2"]
    assert regions["2"] == {"RegionID": 2, "RegionCode": "b", "RegionName": "B", "Nodes": []}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, r"DERPMap: expected an object"),
        ([], r"DERPMap: expected an object"),
        ({"Regions": []}, r"DERPMap\.Regions: expected an object"),
        ({"Regions": {"one": {}}}, r"DERPMap\.Regions: 'one' is not a region number"),
        ({"Regions": {"0": {}}}, r"DERPMap\.Regions: '0' is not a region number"),
        ({"Regions": {"65536": {}}}, r"DERPMap\.Regions: '65536' is not a region number"),
        ({"Regions": {"1": {}}}, r"DERPMap\.Regions\[1\]\.RegionID: expected a number"),
        ({"Regions": {"1": {"RegionID": 2}}}, r"DERPMap\.Regions\[1\]\.RegionID: is 2"),
        ({"Regions": {"1": {"RegionID": True}}}, r"DERPMap\.Regions\[1\]\.RegionID: expected a whole number"),
        ({"Regions": {"1": {"RegionID": 1, "Nodes": {}}}}, r"Regions\[1\]\.Nodes: expected an array"),
        ({"Regions": {"1": {"RegionID": 1, "Nodes": [1]}}}, r"Regions\[1\]\.Nodes\[0\]: expected an object"),
        ({"Regions": {"1": {"RegionID": 1, "Latitude": "x"}}}, r"Regions\[1\]\.Latitude: expected a number"),
        (with_node(HostName=7), r"Nodes\[0\]\.HostName: expected a string"),
        (with_node(STUNPort="3478"), r"Nodes\[0\]\.STUNPort: expected a whole number"),
        (with_node(STUNOnly=1), r"Nodes\[0\]\.STUNOnly: expected true or false"),
        (with_node(DERPPort=65536), r"Nodes\[0\]\.DERPPort: expected a port"),
        ({"HomeParams": []}, r"DERPMap\.HomeParams: expected an object"),
        ({"HomeParams": {"RegionScore": {"1": "low"}}}, r"RegionScore\[1\]: expected a number"),
        ({"HomeParams": {"RegionScore": {"1": float("nan")}}}, r"RegionScore\[1\]: expected a number"),
        ({"HomeParams": {"RegionScore": {"1": 10**400}}}, r"RegionScore\[1\]: expected a number"),
    ],
)
def test_a_bad_map_is_refused_by_the_name_of_its_field(value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_derp_map(value)
