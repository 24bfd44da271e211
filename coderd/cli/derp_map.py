"""``coderctl derp-map``: the relays that this machine knows, and whether they work as the map says."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from coderd.cli.options import SOCKET, Json, Socket
from coderd.cli.say import note, say_json, say_text
from coderd.cli.shown import Shown, lines_text
from coderd.cli.status_text import aligned
from coderd.cli.values import latency_text
from coderd.config.derp import REGION_ID
from coderd.config.derp_map import MAX_MAP_SIZE, bad_map, read_derp_map
from coderd.control.io.client import ControlClient
from coderd.control.messages import DERP_MAP, DerpMapInfo, DerpMapParams, RelayCheck
from coderd.model.derpmap import DEFAULT_DERP_PORT, DEFAULT_STUN_PORT, EMBEDDED_REGION, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json, parse_derp_map
from coderd.model.errors import Exit

PATIENCE = 30.0
"""Seconds to wait for the daemon, whose checks take about twenty at most."""


def derp_map(
    check: Annotated[
        bool, typer.Option("--check", help="Probe every relay: STUN, TLS, HTTP and DERP.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read a file instead of the map in use.")
    ] = None,
    socket: Socket = SOCKET,
    json: Json = False,
) -> int:
    """Show the relays that the server has given this machine.

    Examples:
      coderctl derp-map
      coderctl derp-map --check
      coderctl derp-map --file derpmap.json --check
      coderctl derp-map --json | jq .map

    With --file it needs no daemon: try a map this way before the server uses it. With --check it exits with 0
    if every relay works as the map says, else with 1.
    """
    found = _read(file, check) if file is not None else _ask(socket, check)
    if json:
        say_json(found)
    else:
        say_text(derp_map_text(found))
    return Exit.FAILED if any(node.problems for node in found.checks or ()) else Exit.DONE


def _ask(socket: Path, check: bool) -> DerpMapInfo:
    with ControlClient(socket) as client:
        return client.call(DERP_MAP, DerpMapParams(check=check), patience=PATIENCE)


def _read(path: Path, check: bool) -> DerpMapInfo:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MAP_SIZE + 1)
    except OSError as error:
        raise bad_map(str(path), error.strerror or type(error).__name__) from None
    found = read_derp_map(text, str(path))
    if EMBEDDED_REGION in found.regions:
        note(f"region {EMBEDDED_REGION} is the server's own, unless {REGION_ID.flag} gives it another number")
    if not check:
        return DerpMapInfo(map=derp_map_to_json(found))
    import trio

    from coderd.config.io.log import configure_logging
    from coderd.daemon.diagnosis.relay_check import check_relays

    configure_logging(logging.CRITICAL)  # what goes wrong is the result here
    return DerpMapInfo(map=derp_map_to_json(found), checks=tuple(trio.run(check_relays, found)))


def derp_map_text(found: DerpMapInfo) -> Shown:
    """Returns a map, or the checks of its relays, as lines for people."""
    regions = parse_derp_map(found.map).regions
    nodes = [(regions[region_id], node) for region_id in sorted(regions) for node in regions[region_id].nodes]
    if found.checks is None:
        return lines_text(aligned([_HEADER, *_rows(nodes, found)]))
    codes = {region_id: region.code or str(region_id) for region_id, region in regions.items()}
    lines = aligned([_CHECK_HEADER, *(_check_row(check, codes) for check in found.checks)])
    return lines_text([*lines, "", *_remarks(found.checks, codes)])


_HEADER = ["REGION", "CODE", "NODE", "HOST", "PORT", "STUN", ""]
_CHECK_HEADER = ["REGION", "NODE", "STUN IPv4", "STUN IPv6", "CONNECT", "HTTP", "DERP", ""]


def _rows(nodes: Sequence[tuple[DerpRegion, DerpNode]], found: DerpMapInfo) -> Iterator[list[str]]:
    for region, node in nodes:
        port = (
            "-" if node.stun_only else str(node.derp_port or (80 if node.force_http else DEFAULT_DERP_PORT))
        )
        stun = node.stun_port or DEFAULT_STUN_PORT
        yield [
            str(region.region_id),
            region.code,
            node.name,
            node.host_name,
            port,
            str(stun) if 0 < stun <= 65535 else "-",
            ", ".join(_notes(region, node, found)),
        ]


def _notes(region: DerpRegion, node: DerpNode, found: DerpMapInfo) -> Iterator[str]:
    if region.region_id == found.home:
        yield "home"
    if region.region_id == found.server_region:
        yield "the server"
    if node.stun_only:
        yield "STUN only"
    if node.force_http:
        yield "plain HTTP"
    if node.insecure_for_tests:
        yield "any certificate"
    if region.avoid or region.no_measure_no_home:
        yield "never a home"


def _check_row(check: RelayCheck, codes: dict[int, str]) -> list[str]:
    derp = _time(check.derp_ms) + (" by WebSocket" if check.derp_by == "websocket" else "")
    times = [check.stun_v4_ms, check.stun_v6_ms, check.connect_ms, check.http_ms]
    return [codes[check.region], check.node, *map(_time, times), derp, "fails" if check.problems else "ok"]


def _remarks(checks: Sequence[RelayCheck], codes: dict[int, str]) -> Iterator[str]:
    for check in checks:
        here = f"{check.node} of {codes[check.region]}"
        yield from (f"! {here}: {problem}" for problem in check.problems)
        if check.why_websocket:
            yield f"  {here} is reached by WebSocket: {check.why_websocket}"
    n_failed = sum(bool(check.problems) for check in checks)
    yield f"{len(checks) - n_failed} of {len(checks)} nodes work as the map says"


def _time(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else latency_text(milliseconds)
