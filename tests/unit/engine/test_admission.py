"""Whose word decides what a peer may begin."""

from dataclasses import replace

import pytest

from coderd.engine.admission import inbound_policies
from coderd.model.netmap import NodeKind, PeerAccess
from coderd.model.ports import ALL_PORTS, NO_PORTS, parse_ports
from coderd.packetfilter import InboundPolicy, device_policy, workspace_policy
from tests.shell.daemon_world import make_netmap, make_peer

GUEST_ACCESS = PeerAccess(parse_ports("8000"), terminal=False)
GUEST = replace(make_peer("bob/laptop", 1, kind=NodeKind.DEVICE), access=GUEST_ACCESS)
OWNER = make_peer("ann/laptop", 2, kind=NodeKind.DEVICE)


def policies(kind: NodeKind, *, is_workspace: bool, accepted: str = "none") -> list[InboundPolicy]:
    netmap = make_netmap(GUEST, OWNER, kind=kind)
    found = inbound_policies(netmap, parse_ports(accepted), is_workspace=is_workspace)
    assert {key: address for key, (address, _) in found.items()} == {
        peer.node_key: peer.address.packed for peer in (GUEST, OWNER)
    }
    return [policy for _, policy in found.values()]


def test_a_workspace_obeys_the_server_peer_by_peer() -> None:
    guests, owners = policies(NodeKind.WORKSPACE, is_workspace=True, accepted="22")
    assert guests == workspace_policy(GUEST_ACCESS)
    assert owners == workspace_policy(PeerAccess(ALL_PORTS))
    assert owners.is_open
    assert not guests.is_open


@pytest.mark.parametrize(
    ("kind", "is_workspace"),
    [
        (NodeKind.DEVICE, False),
        (NodeKind.DEVICE, True),
        (NodeKind.WORKSPACE, False),
        (NodeKind.SERVER, False),
    ],
)
def test_everybody_else_decides_for_themselves_whatever_the_server_says(
    kind: NodeKind, is_workspace: bool
) -> None:
    assert policies(kind, is_workspace=is_workspace) == [device_policy(NO_PORTS)] * 2
    assert policies(kind, is_workspace=is_workspace, accepted="22") == [device_policy(parse_ports("22"))] * 2
