"""Makes the snapshot of this node and its peers that ``coderctl status`` shows."""

from functools import partial

import trio

from coderd import __version__
from coderd.control.messages import (
    Batches,
    PeerPath,
    PeerStatus,
    Region,
    RelayLink,
    SelfStatus,
    ServerStatus,
    State,
    Status,
    Transport,
)
from coderd.daemon.node import Node
from coderd.daemon.session import Session
from coderd.magicsock.io.relays import RelayInfo
from coderd.metrics import Counters
from coderd.model.addresses import format_addr_port
from coderd.model.errors import UserError
from coderd.model.netmap import AbsentNode, Peer
from coderd.model.paths import PathInfo, PathKind


def node_status(node: Node) -> Status:
    """Returns a snapshot of the node, its server, relays, peers and counters."""
    session = node.session
    if session is None:
        is_enrolled = bool(node.store.current.device_token)
        return Status(
            version=__version__,
            state="down" if is_enrolled else "logged-out",
            interface=node.interface,
            counters=dict(sorted(node.counters.items())),
            health=(_sentence(node.error),) if node.error is not None else (),
        )
    tunnel = session.tunnel
    return Status(
        version=__version__,
        state=_state(session),
        interface=node.interface,
        self_node=_self_status(session),
        server=_server_status(session),
        home_region=_home_region(session),
        relays=tuple(map(_relay_link, tunnel.relays)),
        endpoints=tuple(format_addr_port(addr) for addr in tunnel.endpoints),
        udp_port=tunnel.udp_port,
        peers=tuple(
            sorted(
                [
                    *map(partial(_peer_status, session), _peers(session)),
                    *map(_absent_status, _absent(session)),
                ],
                key=lambda peer: peer.name,
            )
        ),
        counters=dict(sorted((node.counters + tunnel.counters).items())),
        batches=_batches(tunnel.counters),
        health=tuple(_health(session)),
    )


def _sentence(error: UserError) -> str:
    """Returns the message of the error that ended a session, and its hint if it has one."""
    return f"{error.message}. {error.hint}" if error.hint else error.message


def via(session: Session, path: PathInfo) -> str:
    """Returns ``ip:port`` of a direct path, a relayed path's region code, or an empty string."""
    match path.via:
        case int() if session.netmap is not None:
            return session.netmap.derp_map.code(path.via)
        case (_, _):
            return format_addr_port(path.via)
        case _:
            return ""


def _state(session: Session) -> State:
    return "running" if session.netmap is not None else "connecting"


def _peers(session: Session) -> list[Peer]:
    return list(session.netmap.peers.values()) if session.netmap is not None else []


def _absent(session: Session) -> list[AbsentNode]:
    return list(session.netmap.absent.values()) if session.netmap is not None else []


def _absent_status(node: AbsentNode) -> PeerStatus:
    return PeerStatus(
        name=node.name,
        id=str(node.node_id),
        kind=node.kind,
        address=str(node.address),
        online=False,
        node_key="",
        path=PeerPath(kind=PathKind.NONE),
    )


def _self_status(session: Session) -> SelfStatus | None:
    if session.netmap is None:
        return None
    me = session.netmap.self_node
    return SelfStatus(
        name=me.name,
        id=str(me.node_id),
        kind=me.kind,
        address=str(me.address),
        node_key=session.identity.node_key.public().text,
        accept_inbound=session.accepts_inbound,
    )


def _server_status(session: Session) -> ServerStatus:
    return ServerStatus(
        url=session.identity.origin,
        connected=session.server_state.connected,
        since_s=trio.current_time() - session.server_state_at,
        error=session.server_state.reason,
    )


def _home_region(session: Session) -> Region | None:
    region = session.tunnel.home_region
    if not region or session.netmap is None:
        return None
    return Region(id=region, code=session.netmap.derp_map.code(region))


def _relay_link(info: RelayInfo) -> RelayLink:
    transport: Transport = "websocket" if info.why_websocket else "derp"
    return RelayLink(
        id=info.region_id,
        code=info.code,
        connected=info.is_connected,
        node=info.node,
        transport=transport if info.is_connected else None,
        why=info.why_websocket,
        error=info.failure,
    )


def _peer_status(session: Session, peer: Peer) -> PeerStatus:
    path = session.tunnel.path(peer.node_key)
    wireguard = session.tunnel.wireguard(peer.node_key)
    now = trio.current_time()
    handshake = wireguard.last_handshake_at if wireguard is not None else None
    return PeerStatus(
        name=peer.name,
        id=str(peer.node_id),
        kind=peer.kind,
        address=str(peer.address),
        online=peer.online,
        node_key=peer.node_key.text,
        path=PeerPath(
            kind=path.kind,
            via=via(session, path),
            latency_ms=path.latency * 1000 if path.latency is not None else None,
            since_s=now - path.since,
        ),
        last_handshake_s=now - handshake if handshake is not None else None,
        tx_bytes=wireguard.tx_bytes if wireguard is not None else 0,
        rx_bytes=wireguard.rx_bytes if wireguard is not None else 0,
        tx_relay_bytes=path.tx_relay,
        rx_relay_bytes=path.rx_relay,
        tx_direct_bytes=path.tx_direct,
        rx_direct_bytes=path.rx_direct,
    )


def _batches(counters: Counters) -> Batches:
    def mean(total: str, times: str) -> float:
        return round(counters[total] / counters[times], 2) if counters[times] else 0.0

    return Batches(
        datagrams_per_sendmsg=mean("udp.sent_datagrams", "udp.sendmsg"),
        datagrams_per_recvmsg=mean("udp.received_datagrams", "udp.recvmsg"),
        segments_per_tun_read=mean("tun.read_segments", "tun.reads"),
        segments_per_tun_write=mean("tun.write_segments", "tun.writes"),
    )


def _health(session: Session) -> list[str]:
    found = []
    if not session.server_state.connected:
        found.append("The server cannot be reached. Tunnels live on meanwhile.")
    if session.netmap is not None and not session.tunnel.home_region:
        found.append(
            "No relay answers, so this machine is reachable only by peers that already know a direct path."
        )
    return found
