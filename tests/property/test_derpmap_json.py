"""DERP maps survive JSON, and a bad one raises ValueError and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json, parse_derp_map

words = st.text("a0.:-é☃", max_size=8)
region_ids = st.integers(1, 65535)
degrees = st.floats(-180, 180)
NAMES = ["HomeParams", "RegionScore", "Regions", "RegionID", "Nodes", "STUNPort", "STUNOnly", "1", "Latitude"]


@st.composite
def regions(draw: st.DrawFn) -> DerpRegion:
    region_id = draw(region_ids)
    node = st.builds(
        DerpNode,
        name=words,
        region_id=st.just(region_id),
        host_name=words,
        cert_name=words,
        ipv4=words,
        ipv6=words,
        stun_port=st.integers(-1, 70000),
        stun_only=st.booleans(),
        derp_port=st.integers(0, 65535),
        insecure_for_tests=st.booleans(),
        stun_test_ip=words,
        can_port_80=st.booleans(),
        force_http=st.booleans(),
    )
    return DerpRegion(
        region_id,
        draw(words),
        draw(words),
        tuple(draw(st.lists(node, max_size=3))),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(degrees),
        draw(degrees),
    )


derp_maps = st.builds(
    DerpMap,
    st.lists(regions(), max_size=4).map(lambda found: {region.region_id: region for region in found}),
    st.dictionaries(region_ids, st.floats(-1, 10), max_size=4),
    st.booleans(),
    st.booleans(),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | words, inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(derp_maps)
def test_maps_survive_json(derp_map: DerpMap) -> None:
    assert parse_derp_map(json.loads(json.dumps(derp_map_to_json(derp_map)))) == derp_map


@given(json_values | st.fixed_dictionaries({"Regions": st.dictionaries(st.just("1"), json_values)}))
def test_any_other_json_is_a_map_or_a_value_error(value: object) -> None:
    try:
        derp_map = parse_derp_map(value)
    except ValueError:
        return
    assert parse_derp_map(derp_map_to_json(derp_map)) == derp_map
