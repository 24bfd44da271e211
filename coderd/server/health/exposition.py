"""Metrics of a server in Prometheus's text format. Pure.

No metric names a user or a machine: labels are kinds, paths, reasons and regions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from coderd.coordination.paths import CAUSES, Histogram, PathTally
from coderd.process.stalls import STALLED_MS, STALLS

REFUSED: Final = "coordination.refused."
_EVENTS: Final = ("coderd_server_events", "What the server did, moved, refused and dropped, by reason.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Connected nodes, and the changes that they have yet to be sent."""

    online: Mapping[str, int]
    """Number of connected nodes by kind."""
    n_tunnels: int
    """Number of pairs of nodes that know each other."""
    n_owed: int
    """Number of changes that have not been sent to their connections yet."""
    paths: Mapping[str, int]
    """Number of those pairs by the path that the device reports: direct, relay or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Input of ``exposition``: all measurements of one moment."""

    version: str
    counters: Mapping[str, int]
    census: Census
    region: str
    """Code of the server's own relay region; empty without a relay."""
    n_relay_clients: int = 0
    relay_queue: tuple[int, int] = (0, 0)
    """Number of packets queued for the relay's clients, and their bytes."""
    tally: PathTally
    """Path measurements that nodes have reported."""
    findings: Mapping[str, int]
    """Number of health findings by severity."""


def exposition(figures: Figures) -> bytes:
    """Returns the metrics in Prometheus's text format."""

    class Collector:
        def collect(self) -> Iterator[Metric]:
            return _families(figures)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry)


def _families(figures: Figures) -> Iterator[Metric]:
    yield _gauge("coderd_server_info", "1, with the program's version.", {"version": figures.version}, 1)
    yield _by_label("coderd_nodes_online", "Connected nodes.", "kind", figures.census.online)
    yield _gauge(
        "coderd_tunnels", "Pairs of nodes that are each other's peers.", {}, figures.census.n_tunnels
    )
    yield _by_label(
        "coderd_tunnel_paths",
        "Pairs by the path that the device reports; none: not in use.",
        "path",
        figures.census.paths,
    )
    yield _gauge(
        "coderd_changes_owed", "Changes not yet sent to the nodes concerned.", {}, figures.census.n_owed
    )
    events = CounterMetricFamily(*_EVENTS, labels=["event"])
    for name, count in sorted(figures.counters.items()):
        events.add_metric([name], count)
    yield events
    refused = CounterMetricFamily(
        "coderd_handshakes_refused", "Nodes that the server refused, by cause.", labels=["cause"]
    )
    for name, count in sorted(figures.counters.items()):
        if name.startswith(REFUSED):
            refused.add_metric([name.removeprefix(REFUSED)], count)
    yield refused
    yield _counter(
        "coderd_loop_stalls",
        "Stalls of the server's event loop for a quarter of a second or more.",
        figures.counters.get(STALLS, 0),
    )
    yield _counter(
        "coderd_loop_stalled_seconds",
        "Seconds of all stalls together.",
        figures.counters.get(STALLED_MS, 0) / 1000,
    )
    yield from _path_families(figures.tally)
    if figures.region:
        yield from _relay_families(figures)
    yield _by_label("coderd_health_findings", "Findings of the last report.", "severity", figures.findings)


def _path_families(tally: PathTally) -> Iterator[Metric]:
    found = HistogramMetricFamily(
        "coderd_time_to_direct_seconds", "From the request for a path to a direct one, as nodes report."
    )
    found.add_metric([], *_buckets(tally.time_to_direct))
    yield found
    lasted = HistogramMetricFamily(
        "coderd_path_lifetime_seconds",
        "How long a path lasted until another replaced it, as nodes report.",
        labels=["path"],
    )
    for path, histogram in sorted(tally.lifetimes.items()):
        lasted.add_metric([path], *_buckets(histogram))
    yield lasted
    yield _counter("coderd_path_changes", "Changes of paths in use, as nodes report.", tally.n_changes)
    failures = CounterMetricFamily(
        "coderd_tunnel_handshake_failures",
        "Handshakes between nodes that failed, by cause, as nodes report.",
        labels=["cause"],
    )
    for cause in sorted(CAUSES):
        failures.add_metric([cause], tally.failures[cause])
    yield failures


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Returns Prometheus's cumulative buckets, and the sum of the values."""
    names = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(histogram.counts)), strict=True)), histogram.total


def _relay_families(figures: Figures) -> Iterator[Metric]:
    region, counters = figures.region, figures.counters
    for what in ("bytes", "packets"):
        family = CounterMetricFamily(f"coderd_relay_{what}", f"Relayed {what}.", labels=["region"])
        family.add_metric([region], counters.get(f"derp.relay.{what}", 0))
        yield family
    drops = CounterMetricFamily(
        "coderd_relay_drops", "Packets that the relay dropped.", labels=["region", "reason"]
    )
    for name, count in sorted(counters.items()):
        if name.startswith("derp.drop."):
            drops.add_metric([region, name.removeprefix("derp.drop.")], count)
    yield drops
    yield _gauge(
        "coderd_relay_clients", "Keys connected to the relay.", {"region": region}, figures.n_relay_clients
    )
    for what, depth in zip(("packets", "bytes"), figures.relay_queue, strict=True):
        yield _gauge(
            f"coderd_relay_queue_{what}",
            f"Queue depth: {what} queued for clients of the relay.",
            {"region": region},
            depth,
        )


def _gauge(name: str, text: str, labels: Mapping[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    family = CounterMetricFamily(name, text)
    family.add_metric([], value)
    return family


def _by_label(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family
