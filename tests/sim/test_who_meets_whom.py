"""Who meets whom: what is shared, revoked, renamed or expires reaches both ends of a tunnel, and their packets, at once.

The server's store, registry and effects are the production ones, and so are the nodes; between them is virtual time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coderd.coordination.message import Goodbye
from coderd.engine.node import CAPABILITIES
from coderd.identity.apps import App, AppShare
from coderd.identity.people import User
from coderd.identity.policy import Terms
from coderd.identity.shares import Wish
from coderd.model.keys import NodePrivate
from coderd.model.netmap import Capability, NodeKind, PeerAccess
from coderd.model.paths import PathKind, PathPolicy, PathRule
from coderd.model.ports import parse_ports
from tests.sim.world import Node, Office

PATIENCE = 2.0
"""Seconds that any change of policy may take to reach a node."""
HOUR = 3600.0


@dataclass
class Team:
    """Ann with a workspace, Bob with a device, both connected."""

    world: Office
    ann: User
    bob: User
    dev: Node
    laptop: Node

    def share(self, ports: str | None = None) -> None:
        """Shares Ann's workspace with Bob, and runs until both have heard so."""
        self.world.share(self.ann, "dev", self.bob, Wish(ports=ports))
        self.world.until(lambda: self.laptop.sees("ann/dev") and self.dev.sees("bob/laptop"), PATIENCE)

    def parted(self) -> None:
        """Runs until neither has the other."""
        self.world.until(
            lambda: "ann/dev" not in self.laptop.peers and "bob/laptop" not in self.dev.peers, PATIENCE
        )

    def is_tunnelled(self) -> bool:
        """Returns whether a packet gets from the laptop to the workspace within a second."""
        number = len(self.dev.arrived) + 1
        self.laptop.send(self.dev, number)
        self.world.run_until(lambda: any(n == number for _, n in self.dev.arrived), 1.0)
        return any(n == number for _, n in self.dev.arrived)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.close()


def make_team(office: Office) -> Team:
    ann, bob = office.add_user("ann"), office.add_user("bob")
    dev, laptop = office.add_workspace(ann), office.add_device(bob)
    office.until(lambda: dev.is_connected and laptop.is_connected)
    return Team(office, ann, bob, dev, laptop)


@pytest.fixture
def team(office: Office) -> Team:
    return make_team(office)


def two_of_ann(office: Office) -> tuple[User, Node, Node]:
    """Ann's laptop and workspace, which see each other."""
    ann = office.add_user("ann")
    dev, laptop = office.add_workspace(ann), office.add_device(ann)
    office.until(lambda: laptop.sees("ann/dev") and dev.sees("ann/laptop"))
    return ann, laptop, dev


def test_neither_side_of_an_offer_is_told_of_the_other_before_it_is_accepted(team: Team) -> None:
    world, store = team.world, team.world.store
    carl = world.add_user("carl")
    phone = world.add_device(carl, "phone")
    world.until(lambda: phone.is_connected)
    world.change(store.shares.offer(team.ann, "dev", "bob"))
    world.change(store.shares.offer(team.ann, "dev", "carl"))
    world.change(store.shares.accept(carl, ("ann", "dev")))
    world.until(lambda: team.dev.sees("carl/phone"), PATIENCE)
    assert set(team.dev.peers) == {"carl/phone"}
    netmap = team.laptop.running.core.netmap
    assert netmap is not None
    assert (netmap.peers, netmap.absent) == ({}, {})
    world.change(store.shares.leave(carl, ("ann", "dev")))
    world.until(lambda: not team.dev.peers, PATIENCE)


def test_a_change_of_a_share_or_of_apps_reaches_the_workspace_at_once(team: Team) -> None:
    world, store = team.world, team.world.store
    team.share()

    def opens(ports: str, *, terminal: bool) -> Callable[[], bool]:
        return lambda: team.dev.peers["bob/laptop"].access == PeerAccess(parse_ports(ports), terminal)

    world.until(opens("none", terminal=False), PATIENCE)
    workspace = store.nodes.get(team.ann, NodeKind.WORKSPACE, "dev")
    world.change(store.apps.set(workspace, App("8080", 8080, AppShare.SHARED)))
    world.until(opens("8080", terminal=False), PATIENCE)
    world.change(store.shares.offer(team.ann, "dev", "bob", Wish(ports="22", terminal=True)))
    world.until(opens("22", terminal=True), PATIENCE)
    world.change(store.shares.offer(team.ann, "dev", "bob", Wish(lifetime=1)))
    world.until(lambda: "ann/dev" not in team.laptop.peers, 1 + PATIENCE)
    team.parted()


def _delete_workspace(team: Team) -> None:
    team.world.change(team.world.store.nodes.delete(team.ann, NodeKind.WORKSPACE, "dev"))


def _revoke_token(team: Team) -> None:
    (token,) = [each for each in team.world.store.tokens.of(team.ann) if each.node == "ann/dev"]
    team.world.change(team.world.store.tokens.revoke(team.ann, token.token_id))


def _delete_owner(team: Team) -> None:
    team.world.change(team.world.store.users.delete(team.ann))


@pytest.mark.parametrize("revoke", [_delete_workspace, _revoke_token, _delete_owner])
def test_a_workspace_that_loses_its_right_is_told_and_gone(
    team: Team, revoke: Callable[[Team], None]
) -> None:
    team.share("all")
    assert team.is_tunnelled()
    revoke(team)
    team.world.until(lambda: "ann/dev" not in team.laptop.peers, PATIENCE)
    team.world.until(lambda: not team.dev.is_connected, PATIENCE)
    assert team.dev.refusal is not None
    assert not team.world.is_admitted(team.dev)
    assert not team.is_tunnelled()


def test_a_device_that_enrols_anew_ends_the_link_of_its_old_token(team: Team) -> None:
    team.share("all")
    assert team.is_tunnelled()
    enrolled = team.world.store.nodes.enrol_device(team.bob, "laptop", team.laptop.public)
    assert team.world.change(enrolled).node.node_id == team.laptop.identity.node_id
    team.world.until(lambda: not team.laptop.is_connected, PATIENCE)
    team.world.until(lambda: "bob/laptop" not in team.dev.peers, PATIENCE)


def test_a_device_whose_time_is_up_is_cut_off_and_told_so(tmp_path: Path) -> None:
    team = make_team(Office(tmp_path, terms=Terms(device_lifetime=HOUR)))
    team.share()
    team.world.run_for(HOUR - team.world.now + 990)
    assert team.laptop.is_connected
    team.world.until(lambda: not team.laptop.is_connected, 20 + 2 * PATIENCE)
    assert team.laptop.refusal is not None
    assert "sign in again" in team.laptop.refusal.message
    team.world.until(lambda: "bob/laptop" not in team.dev.peers, PATIENCE)
    again = team.world.start_copy(team.laptop, team.laptop.key)
    team.world.until(lambda: again.refusal is not None, PATIENCE)
    assert again.refusal is not None
    assert again.refusal.code == "expired"
    team.world.close()


def test_a_guest_who_is_deleted_is_gone_from_the_workspace(team: Team) -> None:
    team.share("all")
    assert team.is_tunnelled()
    team.world.change(team.world.store.users.delete(team.bob))
    team.world.until(lambda: "bob/laptop" not in team.dev.peers, PATIENCE)
    team.world.until(lambda: not team.laptop.is_connected, PATIENCE)
    workspace = team.world.store.nodes.get(team.ann, NodeKind.WORKSPACE, "dev")
    assert team.world.store.shares.given([workspace.node_id])[workspace.node_id] == []


def test_the_path_rule_is_in_what_each_side_is_told(team: Team) -> None:
    world, store = team.world, team.world.store
    team.share("all")
    assert team.laptop.peers["ann/dev"].endpoints != ()
    world.until(lambda: team.is_tunnelled() and team.laptop.path_to(team.dev) is PathKind.DIRECT, PATIENCE)
    world.change(store.nodes.set_path(team.ann, "dev", PathRule.RELAY_ONLY))
    for node, name in ((team.laptop, "ann/dev"), (team.dev, "bob/laptop")):

        def is_relayed(node: Node = node, name: str = name) -> bool:
            peer = node.peers[name]
            return peer.path_policy is PathPolicy.RELAY_ONLY and peer.endpoints == ()

        world.until(is_relayed, PATIENCE)
    assert team.is_tunnelled()
    assert team.laptop.path_to(team.dev) is PathKind.RELAY
    world.change(store.nodes.set_path(team.ann, "dev", PathRule.DENY))
    team.parted()
    assert not team.is_tunnelled()
    world.change(store.nodes.set_path(team.ann, "dev", PathRule.DIRECT))
    world.until(lambda: team.laptop.sees("ann/dev"), PATIENCE)
    assert team.laptop.peers["ann/dev"].path_policy is PathPolicy.ANY


def test_a_new_name_reaches_the_peers(team: Team) -> None:
    world, store = team.world, team.world.store
    team.share()
    world.change(store.nodes.rename(team.ann, NodeKind.WORKSPACE, "dev", "lab"))
    world.until(lambda: team.laptop.sees("ann/lab"), PATIENCE)
    world.change(store.users.change(team.ann, name="anna"))
    world.until(lambda: team.laptop.sees("anna/lab"), PATIENCE)
    world.change(store.nodes.rename(team.bob, NodeKind.DEVICE, "laptop", "tower"))
    world.until(lambda: team.dev.sees("bob/tower"), PATIENCE)


# Coming and going


def test_what_a_node_can_do_is_told_to_its_peers(office: Office) -> None:
    _, laptop, dev = two_of_ann(office)
    for node, capabilities in ((dev, CAPABILITIES), (laptop, ())):
        node.kill()
        node.capabilities = capabilities
        node.start()
    assert Capability.PACKET_FILTER in CAPABILITIES

    def are_told() -> bool:
        told = laptop.peers["ann/dev"].capabilities, dev.peers["ann/laptop"].capabilities
        return told == (frozenset(map(str, CAPABILITIES)), frozenset())

    office.until(are_told)


def test_a_node_whose_link_breaks_is_lost_not_removed(office: Office) -> None:
    _, laptop, dev = two_of_ann(office)
    dev.kill()
    office.until(lambda: not laptop.peers["ann/dev"].online)


def test_a_deleted_workspace_is_refused_in_mid_session(office: Office) -> None:
    ann, laptop, dev = two_of_ann(office)
    office.change(office.store.nodes.delete(ann, NodeKind.WORKSPACE, "dev"))
    office.until(lambda: dev.refusal is not None, PATIENCE)
    office.until(lambda: "ann/dev" not in laptop.peers, PATIENCE)


def test_a_key_of_another_identity_is_refused(office: Office) -> None:
    _, laptop, dev = two_of_ann(office)
    thief = office.start_copy(dev, laptop.key)
    office.until(lambda: thief.refusal is not None)
    assert thief.refusal is not None
    assert thief.refusal.code == "key_taken"
    assert laptop.is_connected


def test_nodes_find_a_restarted_server_again_and_keep_their_netmap(office: Office) -> None:
    _, laptop, dev = two_of_ann(office)
    office.stop_server()
    office.until(lambda: not laptop.is_connected)
    assert laptop.sees("ann/dev"), "losing the server loses no peer"
    office.start_server()
    office.until(lambda: laptop.is_connected and dev.is_connected)
    office.until(lambda: laptop.sees("ann/dev"))


def test_another_users_node_hears_not_a_trace(office: Office) -> None:
    """Everything that a second user's device is told, while the first user's nodes join, move and leave."""
    tablet = office.add_device(office.add_user("bob"), "tablet")
    office.until(lambda: tablet.is_connected)
    ann, laptop, dev = two_of_ann(office)
    dev.move("10.7.7.7", None)
    office.until(lambda: "10.7.7.7" in [ip for ip, _ in laptop.peers["ann/dev"].endpoints])
    dev.running.say(Goodbye())
    office.until(lambda: "ann/dev" not in laptop.peers)
    office.change(office.store.nodes.delete(ann, NodeKind.WORKSPACE, "dev"))
    office.run_for(1.0)
    everything = "\n".join(office.said["bob/tablet"])
    assert "bob/tablet" in everything
    for trace in (
        "ann",
        str(laptop.identity.node_id),
        laptop.public.hex(),
        dev.public.hex(),
        laptop.ip,
        "10.7.7.7",
        str(laptop.identity.address),
    ):
        assert trace not in everything


# The relay


def test_deleting_a_workspace_closes_its_relay_link(office: Office) -> None:
    ann = office.add_user("ann")
    dev = office.add_workspace(ann)
    office.until(lambda: dev.is_connected and dev.running.is_relayed)
    link = dev.running.relay(dev.running.core.home_region)
    office.change(office.store.nodes.delete(ann, NodeKind.WORKSPACE, "dev"))
    office.until(lambda: not link.is_up, PATIENCE)
    assert not link.peer_sees_it


def test_a_new_key_closes_the_relay_links_of_the_old(office: Office) -> None:
    old = office.add_workspace(office.add_user("ann"))
    office.until(lambda: old.is_connected and old.running.is_relayed)
    link = old.running.relay(old.running.core.home_region)
    new = office.start_copy(old, NodePrivate.generate(office.rng.randbytes))
    office.until(lambda: not link.is_up, PATIENCE)
    assert not link.peer_sees_it
    office.until(lambda: new.is_connected and new.running.is_relayed)
