"""One device and hundreds of workspaces at once: how soon all are direct, though nobody is pinged without measure."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from coderd.magicsock.ping_budget import PINGS_PER_TARGET
from coderd.model.addresses import AddrPort
from coderd.model.keys import NodePublic
from coderd.model.paths import PathKind
from coderd.model.transport import DerpTransmit, UdpSource, UdpTransmit
from tests.sim.magicsock.internet import COORDINATION_DELAY, HOP, Internet, Node, peer_of
from tests.sim.nat import Filtering, Mapping, Nat

N_WORKSPACES = 300
EASY = (Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
OFFICE = "203.0.113.1"


class Star(Internet):
    """A device in the middle; each workspace knows it alone. News of one moment come as one map."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.device = self.add_node("device", Nat("198.51.100.1", *EASY), ip="10.0.0.2")
        self._is_news_coming = False
        self._last_seen: dict[str, AddrPort] = {}
        """Where those were who have vanished, by name."""
        self._by_key: dict[NodePublic, Node] = {}
        self._nats: dict[str, Nat] = {}
        self._inside: dict[tuple[Nat | None, AddrPort], Node] = {}

    def workspaces(self) -> list[Node]:
        return [node for node in self.nodes if node is not self.device]

    def coordinate(self, node: Node) -> None:
        if node is self.device:
            self.at(self.now + COORDINATION_DELAY, self._tell_workspaces)
        elif not self._is_news_coming:
            self._is_news_coming = True
            self.at(self.now + COORDINATION_DELAY, self._tell_device)

    def _tell_workspaces(self) -> None:
        for node in self.workspaces():
            if node.name not in self._last_seen:
                node.conn.set_netmap([peer_of(self.device)], self.now)
                self.drain(node)

    def _tell_device(self) -> None:
        self._is_news_coming = False
        told = [(peer_of(node), self._last_seen.get(node.name)) for node in self.workspaces()]
        peers = [peer if seen is None else replace(peer, endpoints=(seen,)) for peer, seen in told]
        self.device.conn.set_netmap(peers, self.now)
        self.drain(self.device)

    def _carry(self, sender: Node, transmit: UdpTransmit | DerpTransmit) -> None:
        """Finds the receiver of a relayed packet by its key, not by asking every node."""
        if isinstance(transmit, UdpTransmit):
            super()._carry(sender, transmit)
            return
        if not self._by_key:
            self._by_key = {node.public: node for node in self.nodes}
        receiver = self._by_key[transmit.to]
        self.at(self.now + 2 * HOP, lambda: self._relay(sender, receiver, transmit.datagrams))

    def _land(self, source: AddrPort, to: AddrPort, datagram: bytes, is_congested: bool = False) -> None:
        """Finds the host by its address, not by asking every one."""
        if not self._nats:
            self._nats = {node.nat.ip: node.nat for node in self.nodes if node.nat is not None}
            self._inside = {(node.nat, node.addr): node for node in self.nodes}
        nat = self._nats.get(to[0])
        inside = nat.inbound(source, to[1]) if nat is not None else None
        if inside is not None and (node := self._inside.get((nat, inside))) is not None:
            node.conn.handle_udp(UdpSource(source), [datagram], self.now)
            self.drain(node)

    def vanish(self, node: Node) -> None:
        """It is in the map, with an address of its NAT's, yet nothing comes of it."""
        assert node.nat is not None
        self._last_seen[node.name] = (node.nat.ip, 2000 + len(self._last_seen))

    def n_direct(self) -> int:
        paths = (self.device.conn.path(node.public).kind for node in self.workspaces())
        return sum(kind is PathKind.DIRECT for kind in paths)


def apart(n: int) -> Star:
    """Each workspace behind a NAT of its own, at the same inner address as many others."""
    net = Star()
    for i in range(n):
        nat = Nat(f"203.0.{i // 200}.{i % 200 + 1}", *EASY)
        net.add_node(f"ws{i}", nat, ip=f"10.1.0.{i % 10 + 2}")
    return net


def together(n: int) -> Star:
    """All behind one NAT: an office, or a cloud's."""
    net, nat = Star(), Nat(OFFICE, *EASY)
    for i in range(n):
        net.add_node(f"ws{i}", nat, ip=f"10.1.{i // 200}.{i % 200 + 2}")
    return net


@pytest.mark.slow
@pytest.mark.parametrize("build", [apart, together])
def test_three_hundred_workspaces_are_direct_in_four_round_trips(build: Callable[[int], Star]) -> None:
    net = build(N_WORKSPACES)
    net.start()
    assert net.run_until(lambda: net.n_direct() == N_WORKSPACES, 30) <= 4 * 4 * HOP


def test_one_workspace_is_direct_in_three_round_trips() -> None:
    net = apart(1)
    net.start()
    assert net.run_until(lambda: net.n_direct() == 1, 30) <= 3 * 4 * HOP


def test_dead_ones_behind_the_same_nat_have_one_turn_each_before_the_first_of_the_living() -> None:
    """They are named by the map, and so before the living have called. One answer, and all the living go at once."""
    net = together(60)
    alive = net.workspaces()[::3]
    dead = [node for node in net.workspaces() if node not in alive]
    for node in dead:
        net.vanish(node)
    net.start()
    turns = len(dead) / PINGS_PER_TARGET
    assert turns - 1 < net.run_until(lambda: net.n_direct() > 0, 30) < turns + 0.5
    assert net.run_until(lambda: net.n_direct() == len(alive), 30) < 0.5
