"""A status as a person reads it: short, aligned, one row per peer. Pure.

ann/laptop  fd60:627a:a42b:1d::1  this machine
ann/dev     fd60:627a:a42b:2f::1  direct 203.0.113.7:41641, 12ms  tx 1.2 MiB  rx 3.4 MiB  handshake 12s ago
ann/build   fd60:627a:a42b:3e::1  relay "coder", 31ms             tx 308 B    rx 220 B    handshake 3s ago
ann/spare   fd60:627a:a42b:4c::1  idle
ann/old     fd60:627a:a42b:5a::1  offline

server http://192.0.2.10:3000, connected; home relay "coder"
"""

from collections.abc import Sequence

from coderd.cli.shown import Shown, lines_text
from coderd.cli.values import ago_text, latency_text, size_text
from coderd.control.messages import PeerStatus, RelayLink, ServerStatus, Status
from coderd.model import limits
from coderd.model.visible import visible

MAX_CELL = limits.MAX_SHOWN_CELL
SESSION_LIFE = 180.0
"""Seconds after its handshake that a WireGuard session can carry data (``REJECT_AFTER_TIME``)."""

NOT_JOINED = {
    "logged-out": "Not signed in. Join with: sudo coderctl up https://SERVER:3000",
    "down": "Left the network. Join again with: sudo coderctl up",
}


def status_text(status: Status) -> Shown:
    """Returns the whole status as lines for people."""
    if status.state in NOT_JOINED:
        return lines_text([NOT_JOINED[status.state], *_health(status.health)])
    rows = [_self_row(status)] if status.self_node is not None else []
    rows += [_peer_row(peer) for peer in status.peers]
    parts = [*aligned(rows), *([""] if rows else []), _server_line(status), *_inbound_line(status)]
    parts += [*map(_detour_line, filter(_is_detour, status.relays)), *_health(status.health)]
    return lines_text(parts)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns rows with aligned columns, two spaces apart; no space at a line's end."""
    shown = [_cells(row) for row in rows]
    widths = [
        max(len(row[column]) for row in shown if column < len(row))
        for column in range(max(map(len, shown), default=0))
    ]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in shown
    ]


def _cells(row: Sequence[str]) -> list[str]:
    """Returns a row's cells, made visible and cut at ``MAX_CELL``, except the last.

    The table thus stays readable.
    """
    return [visible(cell, MAX_CELL) for cell in row[:-1]] + [visible(cell) for cell in row[-1:]]


def _self_row(status: Status) -> list[str]:
    assert status.self_node is not None
    return [status.self_node.name, status.self_node.address, "this machine"]


def _peer_row(peer: PeerStatus) -> list[str]:
    row = [peer.name, peer.address, peer_state(peer)]
    if peer.last_handshake_s is not None:
        row += [
            f"tx {size_text(peer.tx_bytes)}",
            f"rx {size_text(peer.rx_bytes)}",
            f"handshake {ago_text(peer.last_handshake_s)}",
        ]
    return row


def peer_state(peer: PeerStatus) -> str:
    """Returns ``direct ip:port, 12ms``, ``relay "coder", 31ms``, ``idle`` or ``offline``."""
    has_session = peer.last_handshake_s is not None and peer.last_handshake_s < SESSION_LIFE
    if not has_session:
        return "idle" if peer.online else "offline"
    name = {"direct": f"direct {peer.path.via}", "relay": f'relay "{peer.path.via}"', "none": "no path"}
    latency = f", {latency_text(peer.path.latency_ms)}" if peer.path.latency_ms is not None else ""
    return name[peer.path.kind] + latency + ("" if peer.online else "; the server has lost contact with it")


def _server_line(status: Status) -> str:
    relay = (
        f'; home relay "{status.home_region.code}"' if status.home_region is not None else "; no relay yet"
    )
    return (f"server {_server(status.server)}" if status.server is not None else "no server") + relay


def _inbound_line(status: Status) -> list[str]:
    """Returns a line on what peers may connect to, where this machine decides it."""
    ports = status.self_node.accept_inbound if status.self_node is not None else None
    match ports:
        case None:
            return []
        case "none":
            return ["accepts no connections from peers"]
        case "all":
            return ["accepts connections from peers to all ports"]
    return [f"accepts connections from peers to ports {ports}"]


def _is_detour(relay: RelayLink) -> bool:
    return relay.transport == "websocket" or bool(relay.error)


def _detour_line(relay: RelayLink) -> str:
    """Returns a line on a relay that is reached by WebSocket, or not at all."""
    if relay.error:
        return f'relay "{relay.code}": cannot be reached: {relay.error}'
    return f'relay "{relay.code}": WebSocket, because {relay.why}'


def _server(server: ServerStatus) -> str:
    if server.connected:
        return f"{server.url}, connected"
    since = (
        f" for {ago_text(max(server.since_s, 1.0)).removesuffix(' ago')}"
        if server.since_s is not None
        else ""
    )
    return f"{server.url}, not connected{since}" + (f": {server.error}" if server.error else "")


def _health(problems: Sequence[str]) -> list[str]:
    return ["# Health:", *(f"#   - {problem}" for problem in problems)] if problems else []
