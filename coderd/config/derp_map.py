"""A DERP map as an operator writes it: Tailscale's JSON, parsed strictly; each fault is named.

A node uses what it can of a map and ignores the rest. An operator wants to know of faults before any node has
the map.
"""

import json
from collections.abc import Iterator
from ipaddress import ip_address

from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import parse_derp_map
from coderd.model.errors import Exit, UserError

MAX_MAP_SIZE = 256 * 1024
"""Bytes of a map's text: it must fit into one message to every node, beside other fields."""
MAX_REGIONS = 256
MAX_NODES = 32
"""Most nodes in one region."""
MAX_TEXT = 255
PIN_PREFIX = "sha256-raw:"
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


def read_derp_map(text: str | bytes, origin: str) -> DerpMap:
    """Parses a map and checks it against every rule.

    Args:
        text: the JSON.
        origin: what the error calls it: a path or a URL.

    Raises:
        UserError: with Exit.USAGE and one sentence about the first fault.
    """
    if len(text) > MAX_MAP_SIZE:
        raise bad_map(origin, f"it is longer than {MAX_MAP_SIZE // 1024} KiB")
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except _TwiceNamed as error:
        raise bad_map(origin, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise bad_map(origin, f"it is not JSON ({_place(error)})") from None
    try:
        derp_map = parse_derp_map(value)
    except ValueError as error:
        raise bad_map(origin, str(error)) from None
    for fault in derp_map_faults(derp_map):
        raise bad_map(origin, fault)
    return derp_map


def derp_map_faults(derp_map: DerpMap) -> Iterator[str]:
    """Yields the faults of a map, one clause each."""
    if not derp_map.regions:
        yield "it has no regions"
    if len(derp_map.regions) > MAX_REGIONS:
        yield f"it has more than {MAX_REGIONS} regions"
    named: dict[str, int] = {}
    for region in derp_map.regions.values():
        yield from _region_faults(region)
        for node in region.nodes:
            if node.name in named:
                yield f"two nodes are named {node.name!r}, in regions {named[node.name]} and {region.region_id}"
            if node.name:
                named[node.name] = region.region_id


def describe_region(region: DerpRegion) -> str:
    """Returns a region's name for an error: its number and, if it has one, its code."""
    return f"region {region.region_id}" + (f" ({region.code})" if region.code else "")


def is_host_name(text: str) -> bool:
    """Tells whether a text is a name that a resolver may be asked for, or an IP literal without brackets."""
    try:
        ip_address(text)
    except ValueError:
        labels = text.lower().removesuffix(".").split(".")
        is_short = len(text) <= MAX_TEXT and all(0 < len(label) <= 63 for label in labels)
        return is_short and set(text.lower()) <= _HOST_CHARACTERS
    return "%" not in text


def is_plain_text(text: str) -> bool:
    """Tells whether a text is printable and at most ``MAX_TEXT`` characters long."""
    return len(text) <= MAX_TEXT and text.isprintable()


def bad_map(origin: str, why: str) -> UserError:
    """Returns the error for an invalid map."""
    return UserError(
        f"the DERP map {origin} cannot be used: {why}",
        exit_code=Exit.USAGE,
        hint="Try a corrected one with coderctl derp-map --file FILE before it goes into use.",
        code="bad_derp_map",
    )


def _region_faults(region: DerpRegion) -> Iterator[str]:
    where = f"region {region.region_id}"
    if not (is_plain_text(region.code) and is_plain_text(region.name)):
        yield f"{where} has a RegionCode or RegionName that is too long or cannot be printed"
        return
    where = describe_region(region)
    if not region.nodes:
        yield f"{where} has no nodes"
    if len(region.nodes) > MAX_NODES:
        yield f"{where} has more than {MAX_NODES} nodes"
    for node in region.nodes:
        yield from _node_faults(node, region.region_id, where)


def _node_faults(node: DerpNode, region_id: int, where: str) -> Iterator[str]:
    if not node.name:
        yield f"{where} has a node without a Name"
        return
    texts = (node.name, node.cert_name, node.ipv4, node.ipv6, node.stun_test_ip)
    if not all(is_plain_text(text) for text in texts):
        yield f"{where} has a node with a text that is too long or cannot be printed"
        return
    node_here = f"node {node.name!r} of {where}"
    if node.region_id != region_id:
        yield f"{node_here} says that its RegionID is {node.region_id}"
    if not node.host_name:
        yield f"{node_here} has an empty HostName"
    elif not is_host_name(node.host_name):
        yield f"the HostName of {node_here} is neither a host's name nor an address, which is all that it may be"
    if not _is_certificate_name(node.cert_name):
        yield f"the CertName of {node_here} is neither a name nor {PIN_PREFIX} and 64 hexadecimal digits"


def _is_certificate_name(text: str) -> bool:
    if not text.startswith(PIN_PREFIX):
        return not text or is_host_name(text)
    digits = text.removeprefix(PIN_PREFIX)
    return len(digits) == 64 and set(digits) <= set("0123456789abcdef")


class _TwiceNamed(ValueError):
    """An object with a duplicate name: JSON allows it (RFC 8259 §4), and one of the two would be lost."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise _TwiceNamed(f"{twice[:40]!r} occurs twice in one object")


def _place(error: ValueError | RecursionError) -> str:
    """Returns where the text stops being JSON, and why."""
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    return (
        "it is nested too deeply"
        if isinstance(error, RecursionError)
        else "it is not UTF-8, or a number is too long"
    )
