"""Handlers for the paths between nodes and for the relays, as the nodes report them."""

from collections.abc import Iterable
from statistics import median
from typing import Final

import trio

from coderd.api.io.routes import Call, Handler
from coderd.api.messages import ListQuery, PathList, ReachInfo, RelayList, RelayLoad, RelayRegionInfo
from coderd.api.rules import MANAGERS
from coderd.coordination.paths import Reach
from coderd.coordination.viewer import Viewer
from coderd.http.turns import Turn
from coderd.identity.people import Node
from coderd.model import limits
from coderd.model.derpmap import DerpMap, DerpRegion
from coderd.model.derpmap_json import parse_derp_map
from coderd.model.netmap import NodeKind
from coderd.server.directory import Directory
from coderd.server.handlers.reaching import forbidden

MAX_LISTED: Final = limits.MAX_PATHS_LISTED
"""Paths in one answer."""


class PathHandlers:
    """Handlers for ``/paths`` and ``/relays``.

    Args:
        directory: the identities and connected nodes.
        own_region: the map's region with this server's own relay; 0 = there is none.
    """

    def __init__(self, directory: Directory, own_region: int) -> None:
        self._directory = directory
        self._own_region = own_region

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers by operation."""
        return {"list_paths": self._list_paths, "list_relays": self._list_relays}

    async def _list_paths(self, call: Call) -> PathList:
        is_all, derp_map = _wants_all(call), self._derp_map()
        registry, now, turn = self._directory.registry, trio.current_time(), Turn()
        rows: list[ReachInfo] = []
        for connection in list(registry.connections()):
            if is_all or _is_callers(connection.node, call):
                rows += [
                    _reach_info(reach, derp_map)
                    for reach in registry.path_reports.reaches_of(connection, now)
                ]
                await turn.count()
            if len(rows) >= MAX_LISTED:
                break
        return PathList(paths=sorted(rows[:MAX_LISTED], key=lambda row: (row.node, row.peer)))

    async def _list_relays(self, call: Call) -> RelayList:
        is_all = _wants_all(call)
        seen = [
            connection
            for connection in self._directory.registry.connections()
            if connection.node.kind is not NodeKind.SERVER and (is_all or _is_callers(connection.node, call))
        ]
        load = self._load() if call.caller.role in MANAGERS else None
        regions = sorted(self._derp_map().regions.values(), key=lambda region: region.region_id)
        return RelayList(
            regions=[
                _region_info(region, seen, load if region.region_id == self._own_region else None)
                for region in regions
            ]
        )

    def _derp_map(self) -> DerpMap:
        return parse_derp_map(self._directory.registry.derp_map)

    def _load(self) -> RelayLoad:
        relay, counters = self._directory.relay, self._directory.counters
        queued_packets, queued_bytes = relay.queued()
        return RelayLoad(
            clients=len(relay.stats()),
            bytes=counters["derp.relay.bytes"],
            packets=counters["derp.relay.packets"],
            drops=sum(count for name, count in counters.items() if name.startswith("derp.drop.")),
            queued_packets=queued_packets,
            queued_bytes=queued_bytes,
        )


def _reach_info(reach: Reach, derp_map: DerpMap) -> ReachInfo:
    return ReachInfo(
        node=reach.node.full_name,
        node_id=reach.node.node_id,
        kind=reach.node.kind.value,
        peer=reach.peer.full_name,
        peer_id=reach.peer.node_id,
        peer_kind=reach.peer.kind.value,
        path=reach.path,
        region=derp_map.code(reach.region) if reach.region else "",
        rtt=reach.rtt,
        since=reach.since,
    )


def _region_info(region: DerpRegion, seen: Iterable[Viewer], load: RelayLoad | None) -> RelayRegionInfo:
    reports, number = [connection.paths for connection in seen], region.region_id
    latencies = [report.latencies[number] for report in reports if number in report.latencies]
    return RelayRegionInfo(
        id=number,
        code=region.code,
        name=region.name,
        relays=[node.host_name for node in region.nodes if not node.stun_only],
        home_of=sum(report.home_region == number for report in reports),
        latency=median(latencies) if latencies else None,
        measured_by=len(latencies),
        load=load,
    )


def _is_callers(node: Node, call: Call) -> bool:
    return node.owner.user_id == call.caller.user_id


def _wants_all(call: Call) -> bool:
    """Returns whether a request asks for everyone's.

    Raises ApiError if the caller is neither admin nor owner.
    """
    is_all = call.asked(ListQuery).all
    if is_all and call.caller.role not in MANAGERS:
        forbidden("only an admin or an owner may list everyone's")
    return is_all
