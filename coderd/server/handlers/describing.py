"""Workspaces, shares and connections as API messages."""

import time
from collections.abc import Sequence

import trio

from coderd.api.io.routes import Caller
from coderd.api.messages import ConnectionInfo, OfferInfo, ShareInfo, WorkspaceInfo
from coderd.identity.people import Node
from coderd.identity.policy import may_manage
from coderd.identity.shares import GivenShare, OfferedShare
from coderd.model.netmap import Capability
from coderd.server.directory import Directory
from coderd.server.handlers.reaching import user_of


async def describe(directory: Directory, caller: Caller, nodes: Sequence[Node]) -> list[WorkspaceInfo]:
    """Describes workspaces to a caller; only a caller who may manage one sees its shares."""
    user = user_of(caller)
    managed = [node.node_id for node in nodes if may_manage(user, node.owner)]
    given = await directory.ask(lambda: directory.store.shares.given(managed)) if managed else {}
    return [_workspace(directory, node, given.get(node.node_id, [])) for node in nodes]


async def describe_one(directory: Directory, caller: Caller, node: Node) -> WorkspaceInfo:
    """Describes one workspace to a caller."""
    (info,) = await describe(directory, caller, [node])
    return info


def describe_offer(offered: OfferedShare) -> OfferInfo:
    """Describes a share to its guest."""
    return OfferInfo(
        owner=offered.owner.name,
        workspace=offered.workspace,
        state=offered.state.value,
        ports=offered.ports,
        open_ports=str(offered.open_ports),
        terminal=offered.terminal,
        created_at=offered.created_at,
        lapses_at=offered.lapses_at,
        expires_at=offered.expires_at,
    )


def describe_connections(directory: Directory, workspace: Node) -> list[ConnectionInfo]:
    """Describes the open connections to a workspace, by user and device: tunnels, web apps and terminals."""
    now, owner = time.time(), workspace.owner.user_id
    found = [
        ConnectionInfo(
            user=device.owner.name,
            device=device.name,
            kind="tunnel",
            what="",
            path=path,
            since=now - age,
            is_owner=device.owner.user_id == owner,
        )
        for device, path, age in directory.registry.path_reports.tunnels(workspace, trio.current_time())
    ]
    for visit in directory.visits.of(workspace.node_id):
        user = visit.user
        found.append(
            ConnectionInfo(
                user=user.name if user is not None else "",
                device="",
                kind="app" if visit.app else "terminal",
                what=visit.app,
                path="",
                since=visit.since,
                is_owner=user is not None and user.user_id == owner,
            )
        )
    return sorted(found, key=lambda each: (each.user, each.device, each.kind, each.what))


def _workspace(directory: Directory, node: Node, given: list[GivenShare]) -> WorkspaceInfo:
    connection = directory.registry.connection_of(node.node_id)
    return WorkspaceInfo(
        id=node.node_id,
        name=node.name,
        owner=node.owner.name,
        address=str(node.address),
        online=connection is not None,
        created_at=node.created_at,
        path=node.path.value,
        shared_with=[share.guest for share in given if share.is_accepted],
        shares=[_share(share) for share in given],
        enforces=None if connection is None else Capability.PACKET_FILTER in connection.facts.capabilities,
    )


def _share(share: GivenShare) -> ShareInfo:
    return ShareInfo(
        user=share.guest,
        state="accepted" if share.is_accepted else "offered",
        ports=share.ports,
        open_ports=str(share.open_ports),
        terminal=share.terminal,
        created_at=share.created_at,
        lapses_at=share.lapses_at,
        expires_at=share.expires_at,
    )
