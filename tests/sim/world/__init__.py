"""Whole nodes on the virtual internet: the production ``engine.Node`` and registry, and no waiting.

stream  a daemon's links to server and relays
node    one machine: its place, its state file, its process if it runs
world   the server with its relay and STUN, more relays, and what may happen to them
office  a world whose server has users, shares and tokens: the production store
pair    a world of two machines, and what they say to each other
"""

from tests.sim.nat import EASY, EVERY_KIND, HARD, OPEN, Filtering, Kind, Mapping, Nat, is_direct
from tests.sim.world.node import Node
from tests.sim.world.office import Office
from tests.sim.world.pair import Pair
from tests.sim.world.world import REGION, World

__all__ = [
    "EASY",
    "EVERY_KIND",
    "HARD",
    "OPEN",
    "REGION",
    "Filtering",
    "Kind",
    "Mapping",
    "Nat",
    "Node",
    "Office",
    "Pair",
    "World",
    "is_direct",
]
