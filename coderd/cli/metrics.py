"""``coderctl metrics``: the status in Prometheus's text format.

It goes to stdout, or to a file for a node exporter.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coderd.cli.options import SOCKET, Socket
from coderd.cli.say import say_text
from coderd.cli.shown import lines_text
from coderd.cli.status import ask_status
from coderd.control.messages import Status
from coderd.model.errors import Exit, UserError
from coderd.model.visible import visible

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def metrics(
    socket: Socket = SOCKET,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="PATH", help="Replace this file, atomically, instead of writing to stdout."
        ),
    ] = None,
) -> int:
    """Show this node's counters and paths in Prometheus's text format.

    Examples:
      coderctl metrics
      coderctl metrics --output /var/lib/prometheus/node-exporter/coderd.prom
    """
    text = metrics_text(ask_status(socket))
    if output is None:
        say_text(lines_text(text.decode().removesuffix("\n").split("\n")))
    else:
        _write(output, text)
    return Exit.DONE


def metrics_text(now: Status) -> bytes:
    """Returns one status in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, generate_latest  # late: what status should not pay for

    class Collector:
        def collect(self) -> "Iterator[Metric]":
            return _families(now)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry)


def _families(now: Status) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    events = CounterMetricFamily(
        "coderd_events", "What the daemon transferred and what it dropped, by reason.", labels=["event"]
    )
    for name, count in now.counters.items():
        events.add_metric([visible(name)], count)
    yield events
    yield GaugeMetricFamily(
        "coderd_server_connected",
        "Whether the coordination server is connected.",
        value=now.server is not None and now.server.connected,
    )
    transferred = CounterMetricFamily(
        "coderd_peer_bytes",
        "Bytes of WireGuard datagrams to and from a peer, by kind of path.",
        labels=["peer", "direction", "path"],
    )
    online = GaugeMetricFamily(
        "coderd_peer_online", "Whether the peer is connected to the server.", labels=["peer"]
    )
    path = GaugeMetricFamily("coderd_peer_path", "1 for the kind of path in use.", labels=["peer", "kind"])
    latency = GaugeMetricFamily(
        "coderd_peer_latency_seconds", "Round trip of the path in use.", labels=["peer"]
    )
    for peer in now.peers:
        name = visible(peer.name)
        online.add_metric([name], peer.online)
        path.add_metric([name, peer.path.kind], 1)
        if peer.path.latency_ms is not None:
            latency.add_metric([name], peer.path.latency_ms / 1000)
        transferred.add_metric([name, "tx", "direct"], peer.tx_direct_bytes)
        transferred.add_metric([name, "tx", "relay"], peer.tx_relay_bytes)
        transferred.add_metric([name, "rx", "direct"], peer.rx_direct_bytes)
        transferred.add_metric([name, "rx", "relay"], peer.rx_relay_bytes)
    yield from (online, path, latency, transferred)


def _write(path: Path, text: bytes) -> None:
    """Replaces the file atomically: a scrape never reads half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(text)
        fresh.chmod(0o644)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
