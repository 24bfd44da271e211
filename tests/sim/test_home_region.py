"""Ten regions, each a relay with a STUN server at its own distance: which one a node calls home, and when it moves."""

from coderd.identity.people import Node as Identity
from coderd.identity.people import User
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NodeKind
from tests.sim.world import REGION, Node, World
from tests.sim.world.node import node_id
from tests.sim.world.world import Region

N_REGIONS = 10
RTTS = {region: 0.20 + 0.05 * (region - 1) for region in range(1, N_REGIONS + 1)}
"""Seconds to STUN and back: 200 ms for the first, 650 ms for the last."""


def a_world() -> tuple[World, dict[int, Region], Node]:
    """A node that has chosen the nearest of ten relays; the server itself is farther than any."""
    world = World(rtt=1.0)
    regions = {number: world.add_region(number, rtt) for number, rtt in RTTS.items()}
    identity = Identity(node_id(world.rng), NodeKind.DEVICE, "laptop", User(node_id(world.rng), "ann"), 0.0)
    node = world.add_node(identity, None, world.rng, key=NodePrivate.generate(world.rng.randbytes))
    node.start()
    world.until(lambda: is_home(node, 1), 20)
    return world, regions, node


def is_home(node: Node, region: int) -> bool:
    """Whether a region is a node's home, and the link to its relay is up."""
    return node.running.homes[-1:] == [region] and node.running.relay(region).is_up


def look(world: World, node: Node) -> None:
    """Measures everything anew, and runs until the report."""
    core = node.running.core
    before = core.report
    core.check(world.now)
    node.running.drain()
    world.until(lambda: core.report is not before, 20)


def test_the_nearest_of_ten_is_home_and_home_moves_only_for_one_that_is_much_nearer() -> None:
    world, regions, node = a_world()
    regions[4].stun.delay = 0.17 / 2
    look(world, node)
    assert node.running.homes[-1] == 1, "a little nearer is no reason to move"
    regions[7].stun.delay = 0.02 / 2
    look(world, node)
    world.until(lambda: is_home(node, 7), 20)
    assert REGION not in node.running.homes


def test_a_home_whose_relay_dies_is_left_for_the_next_nearest() -> None:
    world, regions, node = a_world()
    world.stop(regions[1])  # its STUN goes on
    world.until(lambda: is_home(node, 2), 20)
