"""Reading an operator's map is total: a map that nodes can use, or one sentence."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.config.derp import DerpOptions
from coderd.config.derp_map import derp_map_faults, read_derp_map
from coderd.config.url import parse_server_url
from coderd.model.derpmap import DerpMap
from coderd.model.derpmap_json import derp_map_to_json, parse_derp_map
from coderd.model.errors import UserError
from coderd.server.derpmap import MapClash, assemble
from tests.property.test_derpmap_json import derp_maps, json_values

URL = parse_server_url("http://192.0.2.10:3000")


def outcome(read: Callable[[], DerpMap]) -> DerpMap | str:
    """A map, or what was said instead."""
    try:
        return read()
    except UserError as error:
        return error.message
    except MapClash as error:
        return str(error)


def assert_sound(found: DerpMap | str) -> None:
    if isinstance(found, str):
        assert found.isprintable()
        assert not found.endswith(".")
        assert len(found) < 1000
    else:
        assert not list(derp_map_faults(found))
        assert parse_derp_map(derp_map_to_json(found)) == found


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_text_is_a_map_or_one_sentence(text: str | bytes) -> None:
    assert_sound(outcome(lambda: read_derp_map(text, "x")))


@given(
    json_values
    | st.fixed_dictionaries({"Regions": st.dictionaries(st.sampled_from(["1", "999"]), json_values)})
)
def test_any_json_is_a_map_or_one_sentence(value: object) -> None:
    assert_sound(outcome(lambda: read_derp_map(json.dumps(value), "x")))


@pytest.mark.slow
@given(derp_maps, st.booleans())
def test_what_nodes_are_given_is_sound_and_has_every_region_of_the_operators(
    custom: DerpMap, block: bool
) -> None:
    sound = outcome(lambda: read_derp_map(json.dumps(derp_map_to_json(custom)), "x"))
    if isinstance(sound, str):
        return
    whole = outcome(lambda: assemble(DerpOptions(blocks_direct=block), URL, [("::", 3478)], sound))
    assert_sound(whole)
    if isinstance(whole, DerpMap) and not block:
        assert whole.regions.keys() == sound.regions.keys() | {999}
