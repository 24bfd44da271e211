"""The DERP map's JSON, as Tailscale writes it: names match in any case, absent, null and zero mean the same.

Two names are ours: ``ForceHTTP`` on a node and ``ForceWebSockets`` on the map. The writer leaves out what is
zero, empty or false, where upstream does.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.go_json import Fields, number

Json: TypeAlias = dict[str, object]
_T = TypeVar("_T")

MAX_REGION_ID = 65535
"""Upstream allows more, but a region travels as a 16-bit port between nodes."""
_MAX_PORT = 65535


def parse_derp_map(value: object) -> DerpMap:
    """Reads a decoded JSON value.

    A STUN port outside its range means *no STUN* here as upstream; a relay's is an error.

    Raises:
        ValueError: something has the wrong type or an impossible value; the message begins with the field's
            path.
    """
    fields = _Fields(value, "DERPMap")
    params = fields.get("HomeParams")
    home_params = _Fields({} if params is None else params, "DERPMap.HomeParams")
    regions = _keyed(fields, "Regions", _parse_region)
    for key, region in regions.items():
        if region.region_id != key:
            raise ValueError(f"DERPMap.Regions[{key}].RegionID: is {region.region_id}")
    return DerpMap(
        regions=regions,
        region_score=_keyed(home_params, "RegionScore", number),
        omit_default_regions=fields.flag("omitDefaultRegions"),
        force_websockets=fields.flag("ForceWebSockets"),
    )


def derp_map_to_json(derp_map: DerpMap) -> Json:
    """Returns the value to encode: fields in upstream's order, regions by number."""
    scores = {str(region_id): score for region_id, score in sorted(derp_map.region_score.items())}
    value: Json = {"HomeParams": {"RegionScore": scores}} if scores else {}
    value["Regions"] = {
        str(region_id): _region_to_json(region) for region_id, region in sorted(derp_map.regions.items())
    }
    return value | _kept(
        {
            "omitDefaultRegions": derp_map.omit_default_regions,
            "ForceWebSockets": derp_map.force_websockets,
        }
    )


def node_to_json(node: DerpNode) -> Json:
    """Returns one node's object, ready to be encoded."""
    required: Json = {"Name": node.name, "RegionID": node.region_id, "HostName": node.host_name}
    return required | _kept(
        {
            "CertName": node.cert_name,
            "IPv4": node.ipv4,
            "IPv6": node.ipv6,
            "STUNPort": node.stun_port,
            "STUNOnly": node.stun_only,
            "DERPPort": node.derp_port,
            "InsecureForTests": node.insecure_for_tests,
            "STUNTestIP": node.stun_test_ip,
            "CanPort80": node.can_port_80,
            "ForceHTTP": node.force_http,
        }
    )


def _region_to_json(region: DerpRegion) -> Json:
    required: Json = {"RegionID": region.region_id, "RegionCode": region.code, "RegionName": region.name}
    optional = {
        "Latitude": region.latitude,
        "Longitude": region.longitude,
        "Avoid": region.avoid,
        "NoMeasureNoHome": region.no_measure_no_home,
    }
    return required | _kept(optional) | {"Nodes": [node_to_json(node) for node in region.nodes]}


def _kept(optional: Mapping[str, object]) -> Json:
    return {name: value for name, value in optional.items() if value}


def _parse_region(value: object, path: str) -> DerpRegion:
    fields = _Fields(value, path)
    nodes = fields.get("Nodes")
    if nodes is None:
        nodes = []
    if not isinstance(nodes, list):
        raise ValueError(f"{path}.Nodes: expected an array")
    return DerpRegion(
        region_id=fields.region_id(),
        code=fields.text("RegionCode"),
        name=fields.text("RegionName"),
        nodes=tuple(_parse_node(node, f"{path}.Nodes[{index}]") for index, node in enumerate(nodes)),
        avoid=fields.flag("Avoid"),
        no_measure_no_home=fields.flag("NoMeasureNoHome"),
        latitude=fields.number("Latitude"),
        longitude=fields.number("Longitude"),
    )


def _parse_node(value: object, path: str) -> DerpNode:
    fields = _Fields(value, path)
    return DerpNode(
        name=fields.text("Name"),
        region_id=fields.integer("RegionID"),
        host_name=fields.text("HostName"),
        cert_name=fields.text("CertName"),
        ipv4=fields.text("IPv4"),
        ipv6=fields.text("IPv6"),
        stun_port=fields.integer("STUNPort"),
        stun_only=fields.flag("STUNOnly"),
        derp_port=fields.port("DERPPort"),
        insecure_for_tests=fields.flag("InsecureForTests"),
        stun_test_ip=fields.text("STUNTestIP"),
        can_port_80=fields.flag("CanPort80"),
        force_http=fields.flag("ForceHTTP"),
    )


def _keyed(fields: "_Fields", name: str, parse: Callable[[object, str], _T]) -> dict[int, _T]:
    """Parses an object with region numbers as decimal strings for keys; skips null values."""
    value = fields.get(name)
    if value is None:
        return {}
    path = f"{fields.path}.{name}"
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object")
    parsed: dict[int, _T] = {}
    for key, item in value.items():
        region_id = _region_key(key, path)
        if item is None:
            continue
        parsed[region_id] = parse(item, f"{path}[{region_id}]")
    return parsed


def _region_key(key: object, path: str) -> int:
    is_number = isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= 5
    if not is_number or not 0 < int(str(key)) <= MAX_REGION_ID:
        raise ValueError(f"{path}: {str(key)[:40]!r} is not a region number from 1 to {MAX_REGION_ID}")
    return int(str(key))


class _Fields(Fields):
    """A map's, region's or node's fields."""

    def port(self, name: str) -> int:
        port = self.integer(name)
        if not 0 <= port <= _MAX_PORT:
            raise ValueError(f"{self.path}.{name}: expected a port from 0 to {_MAX_PORT}")
        return port

    def region_id(self) -> int:
        region_id = self.integer("RegionID")
        if not 0 < region_id <= MAX_REGION_ID:
            raise ValueError(f"{self.path}.RegionID: expected a number from 1 to {MAX_REGION_ID}")
        return region_id
