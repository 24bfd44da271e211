"""Relay links: kept, redialled, queued for, closed when idle. The links are fakes; time is trio's autojump clock."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from random import Random

import pytest
import trio
from trio.testing import MockClock

from coderd.derp.io.client import DerpLink
from coderd.magicsock.io import relays
from coderd.magicsock.io.relays import QUEUE_SIZE, RelayInfo, RelayLinks
from coderd.metrics import Counters
from coderd.model import Buffer
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.transport import DerpTransmit

PEER = NodePublic(b"p" * 32)


class FakeLink:
    """One dialled link, driven by the test."""

    def __init__(self, region: DerpRegion, is_home: bool, why_websocket: str) -> None:
        self.region = region
        self.node = region.nodes[0]
        self.why_websocket = why_websocket
        self.is_home = is_home
        self.sent: list[bytes] = []
        self.broken = trio.Event()
        self.is_crowded = False
        self.room = trio.Event()
        self.handler: relays._Handler | None = None

    def send_nowait(self, to: NodePublic, packets: Sequence[bytes]) -> None:
        self.sent.extend(packets)

    def note_preferred(self, home: bool) -> None:
        self.is_home = home

    async def wait_room(self) -> None:
        await self.room.wait()
        self.is_crowded = False

    async def run(self, handler: relays._Handler) -> str:
        self.handler = handler
        await self.broken.wait()
        return "broken by the test"


class Network:
    """Every link dialled, in order, and whether dialling works."""

    def __init__(self) -> None:
        self.links: list[FakeLink] = []
        self.n_dialled = 0
        self.is_reachable = True
        self.told: list[tuple[str, int]] = []
        self.packets: list[tuple[int, NodePublic, list[Buffer]]] = []
        self.counters = Counters()
        rng = Random(1).randbytes
        self.relays = RelayLinks(
            NodePrivate.generate(rng),
            counters=self.counters,
            rng=rng,
        )
        self.relays.set_derp_map(derp_map(1, 2))

    def handle_relayed(self, region: int, sender: NodePublic, packets: Sequence[Buffer]) -> None:
        self.packets.append((region, sender, [*packets]))

    def handle_peer_gone(self, region: int, peer: NodePublic) -> None:
        self.told.append(("gone", region))

    def handle_relay_connected(self, region: int) -> None:
        self.told.append(("connected", region))

    def handle_relay_broken(self, region: int) -> None:
        self.told.append(("broken", region))

    async def connect(
        self, region: DerpRegion, *_: object, is_home: bool, force_websocket: bool, **__: object
    ) -> FakeLink:
        self.n_dialled += 1
        await trio.sleep(0.02)
        if not self.is_reachable:
            raise ConnectionRefusedError("no relay here")
        self.links.append(FakeLink(region, is_home, "the map says so" if force_websocket else ""))
        return self.links[-1]

    def send(self, region: int, *packets: bytes) -> None:
        self.relays.send_nowait(DerpTransmit(region, PEER, list(packets)))


def derp_map(*regions: int, host: str = "relay.test") -> DerpMap:
    return DerpMap({r: DerpRegion(r, f"r{r}", f"R{r}", (DerpNode(f"{r}a", r, host),)) for r in regions})


@pytest.fixture
async def network(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> AsyncIterator[Network]:
    network = Network()
    monkeypatch.setattr(DerpLink, "connect", network.connect)
    await nursery.start(network.relays.run, network)
    yield network
    nursery.cancel_scope.cancel()


async def test_home_is_dialled_as_soon_as_it_is_known(network: Network, autojump_clock: MockClock) -> None:
    network.relays.set_home(1)
    await trio.sleep(0.1)
    assert [(link.region.region_id, link.is_home) for link in network.links] == [(1, True)]
    assert network.told == [("connected", 1)]


async def test_what_is_sent_while_dialling_leaves_in_order_when_connected(
    network: Network, autojump_clock: MockClock
) -> None:
    network.send(2, b"one", b"two")
    network.send(2, b"three")
    await trio.sleep(0.1)
    assert network.links[0].sent == [b"one", b"two", b"three"]
    network.send(2, b"four")
    assert network.links[0].sent[-1] == b"four"


async def test_the_queue_is_bounded_and_the_oldest_packets_go_first(
    network: Network, autojump_clock: MockClock
) -> None:
    network.send(2, *(bytes([i % 256]) for i in range(QUEUE_SIZE + 10)))
    await trio.sleep(0.1)
    assert len(network.links[0].sent) == QUEUE_SIZE
    assert network.links[0].sent[0] == bytes([10])
    assert network.counters["relays.drop.dialling"] == 10


async def test_a_broken_home_link_is_redialled_at_once(network: Network, autojump_clock: MockClock) -> None:
    network.relays.set_home(1)
    await trio.sleep(20)
    network.links[0].broken.set()
    await trio.sleep(0.2)
    assert len(network.links) == 2
    assert network.told == [("connected", 1), ("broken", 1), ("connected", 1)]


async def test_an_unreachable_home_is_dialled_for_ever_less_and_less_often(
    network: Network, autojump_clock: MockClock
) -> None:
    network.is_reachable = False
    network.relays.set_home(1)
    await trio.sleep(600)
    assert 100 <= network.n_dialled <= 300
    network.is_reachable = True
    await trio.sleep(5.1)
    assert len(network.links) == 1


async def test_a_link_that_is_not_home_closes_when_nothing_was_sent_for_a_minute(
    network: Network, autojump_clock: MockClock
) -> None:
    network.relays.set_home(1)
    network.send(2, b"x")
    await trio.sleep(50)
    network.send(2, b"y")
    await trio.sleep(50)
    assert ("broken", 2) not in network.told
    await trio.sleep(30)
    assert ("broken", 2) in network.told
    assert ("broken", 1) not in network.told
    network.send(2, b"z")
    await trio.sleep(0.1)
    assert network.links[-1].sent == [b"z"]


async def test_a_move_of_home_is_told_to_every_relay(network: Network, autojump_clock: MockClock) -> None:
    network.relays.set_home(1)
    network.send(2, b"x")
    await trio.sleep(0.1)
    network.relays.set_home(2)
    assert {link.region.region_id: link.is_home for link in network.links} == {1: False, 2: True}


async def test_a_region_that_the_map_changes_is_dialled_anew(
    network: Network, autojump_clock: MockClock
) -> None:
    network.relays.set_home(1)
    await trio.sleep(0.1)
    network.relays.set_derp_map(derp_map(1, 2, host="elsewhere.test"))
    await trio.sleep(0.1)
    assert [link.region.nodes[0].host_name for link in network.links] == ["relay.test", "elsewhere.test"]
    assert network.told == [("connected", 1), ("broken", 1), ("connected", 1)]


async def test_a_region_that_leaves_the_map_is_hung_up_on_for_good_and_its_neighbour_is_not(
    network: Network, autojump_clock: MockClock
) -> None:
    network.relays.set_home(1)
    network.send(2, b"x")
    await trio.sleep(0.1)
    network.relays.set_derp_map(derp_map(2))
    network.relays.set_home(2)
    network.send(1, b"y")
    await trio.sleep(30)
    assert network.n_dialled == 2
    assert sorted(network.told) == [("broken", 1), ("connected", 1), ("connected", 2)]
    assert network.counters["relays.drop.unknown_region"] == 1


async def test_breaking_all_links_redials_those_that_are_wanted(
    network: Network, autojump_clock: MockClock
) -> None:
    network.relays.set_home(1)
    await trio.sleep(0.1)
    network.relays.break_all()
    await trio.sleep(0.2)
    assert network.told == [("connected", 1), ("broken", 1), ("connected", 1)]


async def test_sending_to_a_region_that_no_map_names_is_counted(
    network: Network, autojump_clock: MockClock
) -> None:
    network.send(77, b"x", b"y")
    assert network.counters["relays.drop.unknown_region"] == 2


async def test_a_relay_that_answers_is_told_of_and_so_is_why_one_does_not(
    network: Network, autojump_clock: MockClock
) -> None:
    network.relays.set_home(1)
    await trio.sleep(0.1)
    network.is_reachable = False
    network.send(2, b"x")
    await trio.sleep(0.1)
    assert network.relays.infos() == (
        RelayInfo(1, "r1", is_connected=True, node="1a"),
        RelayInfo(2, "r2", is_connected=False, failure="no relay here"),
    )


async def test_a_map_that_forces_websockets_is_obeyed_at_the_next_dial(
    network: Network, autojump_clock: MockClock
) -> None:
    network.relays.set_home(1)
    await trio.sleep(0.1)
    network.relays.set_derp_map(replace(derp_map(1, 2), force_websockets=True))
    network.relays.break_all()
    await trio.sleep(0.2)
    assert [link.why_websocket for link in network.links] == ["", "the map says so"]


async def test_what_arrives_is_passed_on_with_its_region(network: Network, autojump_clock: MockClock) -> None:
    network.relays.set_home(1)
    await trio.sleep(0.1)
    handler = network.links[0].handler
    assert handler is not None
    handler.on_packets(PEER, [b"a", b"b"])
    handler.on_peer_gone(PEER, 1)
    assert network.packets == [(1, PEER, [b"a", b"b"])]
    assert network.told[-1] == ("gone", 1)


async def test_a_link_that_fills_up_is_waited_for_until_it_has_room(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network.relays.set_home(1)
    await trio.sleep(0.1)
    assert not network.relays.is_crowded
    network.links[0].is_crowded = True
    assert network.relays.is_crowded

    async def make_room() -> None:
        await trio.sleep(relays.PATIENCE / 2)
        network.links[0].room.set()

    nursery.start_soon(make_room)
    began = trio.current_time()
    await network.relays.wait_room()
    assert trio.current_time() - began == pytest.approx(relays.PATIENCE / 2)
    assert not network.relays.is_crowded


async def test_a_link_that_makes_no_room_costs_the_others_little(
    network: Network, autojump_clock: MockClock
) -> None:
    network.relays.set_home(1)
    await trio.sleep(0.1)
    network.links[0].is_crowded = True
    began = trio.current_time()
    await network.relays.wait_room()
    assert trio.current_time() - began == pytest.approx(relays.PATIENCE)
    assert network.counters["relays.stalled"] == 1
    assert not network.relays.is_crowded
    await trio.sleep(relays.STALLED_FOR)
    assert network.relays.is_crowded
