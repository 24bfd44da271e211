"""The regions of the relay map: who is at home there, how near they are, and what the server's own relay carries. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from coderd.api.messages import RelayLoad, RelayRegionInfo
from coderd.dashboard.paths import rtt_text


@dataclass(frozen=True, slots=True)
class RegionRow:
    """One region."""

    code: str
    name: str
    relays: str
    home_of: int
    latency: str
    measured_by: int


@dataclass(frozen=True, slots=True)
class LoadView:
    """The server's own relay, as names and values."""

    code: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RelaysView:
    """What the page shows."""

    regions: tuple[RegionRow, ...]
    load: LoadView | None


def view_relays(regions: Iterable[RelayRegionInfo]) -> RelaysView:
    """The page's content."""
    found = list(regions)
    own = next((LoadView(each.code, _facts(each.load)) for each in found if each.load is not None), None)
    return RelaysView(tuple(map(_row, found)), own)


def _row(region: RelayRegionInfo) -> RegionRow:
    return RegionRow(
        code=region.code,
        name=region.name,
        relays=", ".join(region.relays) or "STUN alone",
        home_of=region.home_of,
        latency=rtt_text(region.latency),
        measured_by=region.measured_by,
    )


def _facts(load: RelayLoad) -> tuple[tuple[str, str], ...]:
    return (
        ("Clients", str(load.clients)),
        ("Relayed", f"{size_text(load.bytes)} in {load.packets} packets"),
        ("Waiting", f"{load.queued_packets} packets, {size_text(load.queued_bytes)}"),
        ("Dropped", f"{load.drops} packets"),
    )


def size_text(n_bytes: int) -> str:
    """``0 B``, ``1.2 KiB``, up to TiB."""
    size, unit = float(n_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
