"""Which STUN probes a run sends, and when: all regions at first, then the near ones and home."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.netcheck.report import Report
from coderd.netcheck.target import Family, family_field, is_test_node, may_use

RETRANSMIT_FIRST = 0.1
"""Seconds between the probes of a full plan (Tailscale netcheck's ``defaultInitialRetransmitTime``)."""
RETRANSMIT_UNKNOWN = 0.2
"""Seconds between the probes of an incremental plan, for a region without a known latency."""
RETRANSMIT_FACTOR = 1.2
"""Share of a region's last latency between its probes, where that is known."""
LATER_TRY_EXTRA = 0.05
"""Seconds added per try from the third on."""
FULL_TRIES = 3
HOME_TRIES = 4
NEAR_TRIES = 2
N_NEAREST = 3


class Probe(NamedTuple):
    """One STUN request to be sent ``delay`` seconds into the run, if it can still tell anything then."""

    node: DerpNode
    delay: float


class ProbeSet(NamedTuple):
    """The probes of one region over one family."""

    region_id: int
    family: Family
    probes: tuple[Probe, ...]


def full_plan(derp_map: DerpMap, families: Collection[Family]) -> list[ProbeSet]:
    """Plans every measurable region, three tries per family, as if nothing were known."""
    plan = [
        ProbeSet(region.region_id, family, tuple(_full_probes(region, family, families)))
        for region in _measurable(derp_map)
        for family in Family
    ]
    return [probe_set for probe_set in plan if probe_set.probes]


def incremental_plan(
    derp_map: DerpMap, families: Collection[Family], last: Report, home: int
) -> list[ProbeSet]:
    """Plans the three regions that were nearest last time, and home wherever it is.

    Args:
        derp_map: all regions.
        families: those that this host has usable addresses of.
        last: the report before this one.
        home: the present home region, 0 for none.
    """
    plan: list[ProbeSet] = []
    for position, region in enumerate(_by_last_latency(derp_map, last, home)):
        is_home = region.region_id == home
        if position >= N_NEAREST and not is_home:
            continue
        tries = HOME_TRIES if is_home else NEAR_TRIES if position < NEAR_TRIES else 1
        for family in _incremental_families(families, last, position, is_home):
            probes = tuple(_incremental_probes(region, family, tries, last))
            if probes:
                plan.append(ProbeSet(region.region_id, family, probes))
    return plan


def _measurable(derp_map: DerpMap) -> list[DerpRegion]:
    regions = (derp_map.regions[region_id] for region_id in sorted(derp_map.regions))
    return [region for region in regions if region.nodes and not region.no_measure_no_home]


def _by_last_latency(derp_map: DerpMap, last: Report, home: int) -> list[DerpRegion]:
    """Nearest first, unmeasured last; a region to avoid only where it is home."""
    regions = [r for r in _measurable(derp_map) if not r.avoid or r.region_id == home]
    return sorted(regions, key=lambda region: last.region_latency.get(region.region_id, float("inf")))


def _full_probes(region: DerpRegion, family: Family, families: Collection[Family]) -> Iterator[Probe]:
    for attempt in range(FULL_TRIES):
        node = region.nodes[attempt % len(region.nodes)]
        is_reachable = family in families and may_use(node, family)
        if is_reachable or (is_test_node(node) and family_field(node, family) != "none"):
            yield Probe(node, attempt * RETRANSMIT_FIRST)


def _incremental_families(
    families: Collection[Family], last: Report, position: int, is_home: bool
) -> list[Family]:
    """Both families for home and the two nearest.

    Further out they take turns, or IPv6 rests if it never worked.
    """
    usable = [family for family in Family if family in families]
    if is_home or position < NEAR_TRIES:
        return usable
    if not last.region_v6_latency:
        return [family for family in usable if family is Family.V4]
    if len(usable) == len(Family) and last.region_v4_latency:
        return [Family.V6 if position % 2 else Family.V4]
    return usable


def _incremental_probes(region: DerpRegion, family: Family, tries: int, last: Report) -> Iterator[Probe]:
    if family is Family.V6 and not last.region_v6_latency:
        tries = 1
    known = last.region_latency.get(region.region_id)
    step = RETRANSMIT_UNKNOWN if known is None else RETRANSMIT_FACTOR * known
    for attempt in range(tries):
        node = region.nodes[attempt % len(region.nodes)]
        extra = attempt * LATER_TRY_EXTRA if attempt > 1 else 0.0
        if family_field(node, family) != "none":
            yield Probe(node, attempt * step + extra)
