"""An operator's map is read strictly: each fault has its sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from coderd.config.derp_map import MAX_MAP_SIZE, MAX_NODES, MAX_REGIONS, derp_map_faults, read_derp_map
from coderd.model.derpmap_json import parse_derp_map
from coderd.model.errors import Exit, UserError

DOCUMENTED = (Path(__file__).parents[2] / "vectors/documented_derpmap.json").read_text("utf-8")
VECTORS = json.loads((Path(__file__).parents[2] / "vectors/derpmap.json").read_text("utf-8"))


def region(number: int = 1, *nodes: dict[str, object], **fields: object) -> dict[str, Any]:
    value = {
        "RegionID": number,
        "RegionCode": f"r{number}",
        "Nodes": list(nodes) or [node(f"{number}a", number)],
    }
    return value | fields


def node(name: str = "1a", number: int = 1, **fields: object) -> dict[str, object]:
    return {"Name": name, "RegionID": number, "HostName": "relay.example.com"} | fields


def text(*regions: dict[str, Any]) -> str:
    return json.dumps({"Regions": {str(region["RegionID"]): region for region in regions}})


def fault(text: str) -> str:
    with pytest.raises(UserError) as caught:
        read_derp_map(text, "map.json")
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.hint
    return caught.value.message.removeprefix("the DERP map map.json cannot be used: ")


def test_the_documented_map_is_refused_for_its_empty_host_name_and_accepted_once_that_is_filled() -> None:
    assert fault(DOCUMENTED) == "node '1' of region 1 (myderp) has an empty HostName"
    filled = read_derp_map(DOCUMENTED.replace('"HostName": ""', '"HostName": "derp.example.com"'), "x")
    assert filled.regions[1].nodes[0].host_name == "derp.example.com"
    assert (filled.regions[1].code, filled.regions[1].name) == ("myderp", "My DERP")


def test_a_sound_map_is_what_nodes_will_read() -> None:
    assert read_derp_map(VECTORS["compact_json"], "x") == parse_derp_map(VECTORS["derpmap"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "it has no regions"),
        ('{"Regions": {}}', "it has no regions"),
        ('{"Regions": null}', "it has no regions"),
        (text(region(Nodes=[])), "region 1 (r1) has no nodes"),
        (text(region(1, node(""))), "region 1 (r1) has a node without a Name"),
        (text(region(1, node(HostName=None))), "node '1a' of region 1 (r1) has an empty HostName"),
        (text(region(1, node(number=2))), "node '1a' of region 1 (r1) says that its RegionID is 2"),
        (text(region(1, node(), node())), "two nodes are named '1a', in regions 1 and 1"),
        (text(region(1), region(2, node("1a", 2))), "two nodes are named '1a', in regions 1 and 2"),
        ('{"Regions": {"2": {"RegionID": 1}}}', "DERPMap.Regions[2].RegionID: is 1"),
        ('{"Regions": {"0": {}}}', "DERPMap.Regions: '0' is not a region number from 1 to 65535"),
        ('{"Regions": {"65536": {}}}', "DERPMap.Regions: '65536' is not a region number from 1 to 65535"),
        ('{"Regions": {"1": {}, "1": {}}}', "'1' occurs twice in one object"),
        ("[]", "DERPMap: expected an object"),
        ("", "it is not JSON (line 1, column 1: Expecting value)"),
        ('{"Regions": {', "it is not JSON (line 1, column 14: Expecting property name enclosed in double quotes)"),
        ("[" * 100_000, "it is not JSON (it is nested too deeply)"),
        (" " * (MAX_MAP_SIZE + 1), "it is longer than 256 KiB"),
        (text(region(RegionName="\x1b[31m")), "region 1 has a RegionCode or RegionName that is too long or cannot be printed"),
        (text(region(1, node("a\nb"))), "region 1 (r1) has a node with a text that is too long or cannot be printed"),
    ],
)  # fmt: skip
def test_each_fault_has_its_sentence(text: str, sentence: str) -> None:
    assert fault(text) == sentence


@pytest.mark.parametrize(
    "host",
    ["https://derp.example.com", "derp.example.com:443", "a b", "x/derp", "a..b", "[::1]", "fe80::1%eth0"],
)
def test_a_host_name_is_a_name_or_an_address_and_nothing_else(host: str) -> None:
    assert fault(text(region(1, node(HostName=host)))).startswith(
        "the HostName of node '1a' of region 1 (r1)"
    )


@pytest.mark.parametrize("host", ["derp", "DERP.example.com.", "192.0.2.1", "2001:db8::1", "a_b.example.com"])
def test_names_and_addresses_are_taken(host: str) -> None:
    assert read_derp_map(text(region(1, node(HostName=host))), "x").regions[1].nodes[0].host_name == host


@pytest.mark.parametrize("name", ["sha256-raw:", "sha256-raw:" + "A" * 64, "sha256-raw:" + "a" * 63, "a b"])
def test_a_certificate_name_that_could_never_fit_is_refused(name: str) -> None:
    assert fault(text(region(1, node(CertName=name)))).startswith("the CertName of node '1a'")


def test_maps_have_bounds() -> None:
    many = [node(f"1-{number}") for number in range(MAX_NODES + 1)]
    assert fault(text(region(1, *many))) == f"region 1 (r1) has more than {MAX_NODES} nodes"
    regions = [region(number) for number in range(1, MAX_REGIONS + 2)]
    assert fault(text(*regions)) == f"it has more than {MAX_REGIONS} regions"


def test_all_faults_can_be_had_at_once() -> None:
    value = json.loads(text(region(Nodes=[]), region(2, node("2a", 2, HostName=""))))
    assert list(derp_map_faults(parse_derp_map(value))) == [
        "region 1 (r1) has no nodes",
        "node '2a' of region 2 (r2) has an empty HostName",
    ]


def test_the_map_in_the_documents_is_sound() -> None:
    page = (Path(__file__).parents[3] / "docs/derp-maps.md").read_text("utf-8")
    example = page.partition("```json\n")[2].partition("```")[0]
    assert read_derp_map(example, "docs/derp-maps.md").regions[1].code == "myderp"
