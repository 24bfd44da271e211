"""What connected nodes report of their paths, looked at together. Pure.

They are informational, and not sent to nodes: for people, counters and the access log.
"""

from collections.abc import Callable, Iterator
from typing import Protocol
from uuid import UUID

from coderd.coordination.message import Update
from coderd.coordination.neighbours import Neighbours
from coderd.coordination.paths import PathTally, Reach
from coderd.coordination.viewer import Viewer
from coderd.identity.people import Node
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind


class Connected(Protocol):
    """What path reports ask of the registry: who is connected, and who has been."""

    def node_of(self, node_id: UUID) -> Node | None:
        """Returns a node that is connected or has been, None for any other."""

    def connection_of(self, node_id: UUID) -> Viewer | None:
        """Returns a node's connection, None if it has none."""

    def connections(self) -> list[Viewer]:
        """Lists the connections of all nodes."""


class PathReports:
    """Paths of all connected nodes, as they report them.

    Args:
        connected: who is connected.
        neighbours: who may meet whom; a report of any other peer is dropped.
    """

    def __init__(self, connected: Connected, neighbours: Neighbours) -> None:
        self.tally = PathTally()
        """What nodes have reported, counted."""
        self.on_tunnel: Callable[[Node, Node, str], None] = lambda _device, _workspace, _path: None
        """Called when a device first reports a path to a workspace on a connection: the two, and the kind
        of path."""
        self._connected = connected
        self._neighbours = neighbours

    def take(self, viewer: Viewer, update: Update, now: float) -> None:
        """Keeps what an accepted update reports."""
        if viewer.end is not None:
            return
        viewer.paths.take(update, lambda peer: self._may_meet(viewer.node, peer), self.tally, now)
        if viewer.node.kind is not NodeKind.DEVICE:
            return
        for report in update.path_reports:
            peer = self._connected.node_of(report.peer)
            is_used = peer is not None and report.path in (PathKind.DIRECT, PathKind.RELAY)
            if peer is not None and is_used and viewer.note_used(report.peer):
                self.on_tunnel(viewer.node, peer, report.path)

    def reaches(self, now: float) -> Iterator[Reach]:
        """Yields which peers all connected nodes reach and how."""
        for viewer in self._connected.connections():
            yield from self.reaches_of(viewer, now)

    def reaches_of(self, viewer: Viewer, now: float) -> Iterator[Reach]:
        """Yields which peers one connected node reaches and how."""
        for node_id, path, region, rtt, since in viewer.paths.items(now):
            if viewer.was_told_of(node_id) and (peer := self._connected.node_of(node_id)) is not None:
                yield Reach(viewer.node, peer, path, region, rtt, since)

    def tunnels(self, workspace: Node, now: float) -> Iterator[tuple[Node, PathKind, float]]:
        """Yields the devices that have a tunnel to a workspace, each with the kind of path and its age.

        The workspace's report counts, and where it has none, the device's. Ages are in seconds.
        """
        own = self._connected.connection_of(workspace.node_id)
        for device_id in self._neighbours.around(workspace):
            device = self._connected.connection_of(device_id)
            if device is None or device.node.kind is not NodeKind.DEVICE:
                continue
            if not self._neighbours.may_meet(device.node, workspace):
                continue
            told = own.paths.tunnel(device_id, now) if own is not None else None
            found = told or device.paths.tunnel(workspace.node_id, now)
            if found is not None:
                yield device.node, *found

    def _may_meet(self, node: Node, peer_id: UUID) -> bool:
        peer = self._connected.node_of(peer_id)
        return peer is not None and self._neighbours.may_meet(node, peer)
