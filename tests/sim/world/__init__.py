"""Whole nodes on a virtual internet: everything that is pure in a daemon and its server, and no waiting.

node   one machine: its place, its state file, its process if it runs
world  the clock, the wires, the server and its relay
"""

from tests.sim.nat import EASY, EVERY_KIND, HARD, OPEN, Filtering, Kind, Mapping, Nat, is_direct
from tests.sim.world.node import Node
from tests.sim.world.world import World

__all__ = [
    "EASY",
    "EVERY_KIND",
    "HARD",
    "OPEN",
    "Filtering",
    "Kind",
    "Mapping",
    "Nat",
    "Node",
    "World",
    "is_direct",
]
