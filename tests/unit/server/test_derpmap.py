"""The relay map that the server hands out: its own region, STUN servers, the operator's map.

Options that do not go together are refused.
"""

from dataclasses import replace

import pytest

from coderd.config.derp import DerpOptions, StunServer
from coderd.config.url import parse_server_url
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.server.derpmap import MapClash, assemble

URL = parse_server_url("http://192.0.2.10:3000")
STUN = (("::", 3478), ("::", 3479))
FAR = DerpRegion(1, "far", "Far Away", (DerpNode("1a", 1, "far.example.com"),))
CUSTOM = DerpMap({1: FAR}, {1: 0.5})


def test_the_map_has_the_relay_and_a_stun_only_node_for_the_second_port() -> None:
    region = assemble(DerpOptions(), URL, STUN).regions[999]
    relay, stun = region.nodes
    assert (region.code, region.name, relay.name) == ("coder", "Coder Embedded Relay", "999b")
    assert (relay.stun_port, relay.derp_port) == (3478, 3000)
    assert (relay.stun_only, relay.force_http, relay.host_name) == (False, True, "192.0.2.10")
    assert (stun.name, stun.stun_only, stun.stun_port, stun.host_name) == (
        "999stun1",
        True,
        3479,
        "192.0.2.10",
    )


def test_one_port_at_two_addresses_is_one_node() -> None:
    url = parse_server_url("https://coder.example.com")
    nodes = assemble(DerpOptions(), url, [("192.0.2.1", 3478), ("::", 3478)]).regions[999].nodes
    assert [(node.stun_port, node.derp_port, node.force_http) for node in nodes] == [(3478, 443, False)]


def test_without_stun_the_relay_says_so() -> None:
    nodes = assemble(DerpOptions(), parse_server_url("http://x"), []).regions[999].nodes
    assert [node.stun_port for node in nodes] == [-1]


def test_the_operators_map_stands_beside_the_servers_own_region_and_keeps_its_weights() -> None:
    whole = assemble(DerpOptions(), URL, STUN, CUSTOM)
    assert sorted(whole.regions) == [1, 999]
    assert whole.regions[1] == FAR
    assert whole.region_score == {1: 0.5}


def test_the_own_region_has_the_number_and_names_that_it_was_given() -> None:
    options = DerpOptions(region_id=900, region_code="fra", region_name="Frankfurt")
    region = assemble(options, URL, STUN).regions[900]
    assert (region.region_id, region.code, region.name) == (900, "fra", "Frankfurt")
    assert {(node.name, node.region_id) for node in region.nodes} == {("900b", 900), ("900stun1", 900)}


def test_each_stun_server_is_a_region_of_its_own_after_the_servers() -> None:
    servers = (StunServer("stun.example.com", 19302), StunServer("192.0.2.7", 3478))
    whole = assemble(DerpOptions(stun_servers=servers), URL, STUN)
    assert sorted(whole.regions) == [999, 1000, 1001]
    region = whole.regions[1001]
    assert (region.code, region.name) == ("coder_stun_1001", "Coder STUN 1001")
    assert region.nodes == (DerpNode("1001stun0", 1001, "192.0.2.7", stun_port=3478, stun_only=True),)


def test_without_its_relay_the_server_still_answers_stun() -> None:
    whole = assemble(DerpOptions(has_relay=False), URL, STUN, CUSTOM)
    assert [(node.stun_only, node.stun_port) for node in whole.regions[999].nodes] == [
        (True, 3478),
        (True, 3479),
    ]
    assert sorted(assemble(DerpOptions(has_relay=False), URL, (), CUSTOM).regions) == [1]


def test_websockets_are_forced_by_the_server_or_by_the_map() -> None:
    assert not assemble(DerpOptions(), URL, STUN, CUSTOM).force_websockets
    assert assemble(DerpOptions(force_websockets=True), URL, STUN, CUSTOM).force_websockets
    assert assemble(DerpOptions(), URL, STUN, replace(CUSTOM, force_websockets=True)).force_websockets


def test_where_direct_connections_are_blocked_no_node_offers_stun() -> None:
    options = DerpOptions(blocks_direct=True, stun_servers=(StunServer("stun.example.com", 3478),))
    whole = assemble(options, URL, STUN, CUSTOM)
    nodes = [node for region in whole.regions.values() for node in region.nodes]
    assert {(node.name, node.stun_port) for node in nodes} == {("999b", -1), ("1a", -1)}


def only(region: DerpRegion) -> DerpMap:
    return DerpMap({region.region_id: region})


@pytest.mark.parametrize(
    ("custom", "sentence"),
    [
        (
            only(replace(FAR, region_id=999)),
            "region 999 (far) has the number of the server's own region 'coder', Coder Embedded Relay",
        ),
        (
            only(replace(FAR, region_id=1000)),
            "region 1000 (far) has the number of the server's own region 'coder_stun_1000', Coder STUN 1000",
        ),
        (
            only(replace(FAR, code="coder")),
            "two regions have the code 'coder', and each needs its own",
        ),
        (
            only(replace(FAR, nodes=(DerpNode("999b", 1, "x"),))),
            "node '999b' of region 1 (far) has the name of a node of the server's own",
        ),
    ],
)
def test_what_the_server_adds_itself_cannot_be_in_the_map_too(custom: DerpMap, sentence: str) -> None:
    options = DerpOptions(stun_servers=(StunServer("stun.example.com", 3478),))
    with pytest.raises(MapClash) as caught:
        assemble(options, URL, STUN, custom)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "region",
    [
        replace(FAR, no_measure_no_home=True),
        replace(FAR, avoid=True),
        replace(FAR, nodes=(DerpNode("1s", 1, "stun.example.com", stun_only=True),)),
    ],
)
def test_some_region_has_to_be_a_home(region: DerpRegion) -> None:
    with pytest.raises(MapClash, match="no region has a relay that may be a node's home"):
        assemble(DerpOptions(has_relay=False), URL, STUN, only(region))
    assert assemble(DerpOptions(), URL, STUN, only(region))
