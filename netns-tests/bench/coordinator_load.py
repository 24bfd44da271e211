"""The load of ``scripts/bench coordinator``.

So many nodes in one process, each with the node's own client core and WebSocket.

    python -m bench.coordinator_load URL FLEET

FLEET is a file that ``coordinator`` wrote: who the nodes are and whom each may meet. Orders come on stdin, an
answer to each goes to stdout, both in JSON by line, times in seconds of CLOCK_MONOTONIC, which all processes
of a machine share:

    {"do": "join"}                    everybody joins, IN_FLIGHT at a time; -> when it began, when all were in, when all had converged
    {"do": "change", "count": …}      one node after the other has new endpoints; -> how long each of its peers took to know
    {"do": "return"}                  answered at once; then the server restarts, and the next order is
    {"do": "returned"}                -> when the first was cut off, when all were in again, when all had converged

Converged means that each node knows, of every node that it may meet, the endpoints that this one has had
*since* the join or the restart: what it remembers from before does not count.
"""

import gc
import json
import random
import sys
from collections import Counter
from itertools import count
from os import urandom
from time import monotonic
from uuid import UUID

import structlog
import trio

from coderd.coordination.io.coordination_client import CoordinationClient
from coderd.coordination.server_state import ServerState
from coderd.model.addresses import AddrPort
from coderd.model.derpmap import EMBEDDED_REGION
from coderd.model.keys import DiscoPrivate, NodePrivate
from coderd.model.netmap import NetMap
from coderd.model.reachability import NodeUpdate

IN_FLIGHT = 64
"""Nodes that join at the same time."""
CHANGE_GAP = 0.02
PATIENCE = 180.0
"""Seconds for anything to happen."""
SEED = 5


class SimulatedNode:
    """A node without a tunnel.

    Args:
        fleet: told of everything that it learns.
        who: its line of the fleet's file.
        url: the server's.
    """

    def __init__(self, fleet: "Fleet", who: dict[str, object], url: str) -> None:
        self.node_id = UUID(str(who["id"]))
        self.partners = frozenset(UUID(str(partner)) for partner in who["partners"])  # type: ignore[attr-defined]
        self.is_in, self.reason = False, ""
        self.missing: set[UUID] = set()
        """Partners whose present endpoints it does not know yet."""
        self._fleet = fleet
        self._host = f"10.{self.node_id.bytes[0]}.{self.node_id.bytes[1]}.{self.node_id.bytes[2]}"
        self.client = CoordinationClient(
            url,
            str(who["token"]),
            node_key=NodePrivate.parse(str(who["node_key"])),
            disco_key=DiscoPrivate.generate(urandom).public(),
            generation=int.from_bytes(urandom(8), "big"),
            rng=urandom,
            on_netmap=self._note_netmap,
            on_state=self._note_state,
        )

    def move(self, port: int) -> None:
        """New endpoints: two of IPv4 and two of IPv6, as a host behind a NAT has them."""
        hosts = (self._host, "192.0.2.7", "2001:db8::7", "fd00::7")
        endpoints: tuple[tuple[AddrPort, int], ...] = tuple(((host, port), 0) for host in hosts)
        self.client.update(NodeUpdate(EMBEDDED_REGION, endpoints, {EMBEDDED_REGION: 0.02}))

    def _note_netmap(self, netmap: NetMap) -> None:
        self._fleet.note_netmap(self, netmap)

    def _note_state(self, state: ServerState) -> None:
        self.is_in, self.reason = state.connected, state.reason
        self._fleet.note_state(self)


class Fleet:
    """All nodes, and what they wait for."""

    def __init__(self, url: str, people: list[dict[str, object]]) -> None:
        self.nodes = [SimulatedNode(self, who, url) for who in people]
        self._by_id = {node.node_id: node for node in self.nodes}
        self._ports = count(10_000)
        self._port = 0
        self._n_missing = 0
        self._expected: set[UUID] = set()
        """Who has not been in since the order."""
        self._cut_at: float | None = None
        self._all_in_at: float | None = None
        self._converged = trio.Event()
        self._moved: UUID | None = None
        self._heard: list[float] = []
        self._unheard = 0
        self._all_heard = trio.Event()
        self._limiter = trio.Semaphore(IN_FLIGHT)

    # Orders

    async def join(self, nursery: trio.Nursery) -> dict[str, object]:
        """Everybody joins."""
        self._expect_all()
        began = monotonic()
        for node in self.nodes:
            await self._limiter.acquire()
            node.move(self._port)
            nursery.start_soon(node.client.run)
        await self._converged.wait()
        return {"began": began, "all_in": self._all_in_at, "converged": monotonic()}

    async def change(self, n_changes: int) -> dict[str, object]:
        """One node after the other moves; each is waited for."""
        movers = [node for node in self.nodes if node.partners]
        chosen = random.Random(SEED).choices(movers, k=n_changes)
        delays: list[float] = []
        for node in chosen:
            delays += await self._move(node)
            await trio.sleep(CHANGE_GAP)
        return {"delays": delays}

    def expect_return(self) -> dict[str, object]:
        """From now on everybody who loses the server comes back with new endpoints."""
        self._expect_all()
        self._cut_at = None
        return {}

    async def returned(self) -> dict[str, object]:
        """Once all are back and know of each other."""
        await self._converged.wait()
        return {"cut": self._cut_at, "all_in": self._all_in_at, "converged": monotonic()}

    def shortfall(self) -> str:
        """What is not as it should be yet."""
        away = [node for node in self.nodes if not node.is_in]
        reasons = Counter(node.reason for node in away)
        return f"{len(away)} nodes are not in ({dict(reasons)}), {self._n_missing} pieces of news are missing"

    # What nodes say

    def note_state(self, node: SimulatedNode) -> None:
        """A node has joined, or lost the server."""
        if node.is_in and node.node_id in self._expected:
            self._expected.remove(node.node_id)
            self._limiter.release()
            if not self._expected:
                self._all_in_at = monotonic()
        if not node.is_in:
            self._cut_at = self._cut_at or monotonic()
            node.move(self._port)

    def note_netmap(self, node: SimulatedNode, netmap: NetMap) -> None:
        """A node has learned something."""
        if self._moved in node.partners and self._is_current(netmap, self._moved):
            self._heard.append(monotonic())
            self._unheard -= 1
            if not self._unheard:
                self._all_heard.set()
        if node.missing:
            before = len(node.missing)
            node.missing = {other for other in node.missing if not self._is_current(netmap, other)}
            self._n_missing -= before - len(node.missing)
            if not self._n_missing:
                self._converged.set()

    # Privates

    def _expect_all(self) -> None:
        self._port = next(self._ports)
        self._converged = trio.Event()
        self._all_in_at = None
        self._expected = set(self._by_id)
        for node in self.nodes:
            node.missing = set(node.partners)
        self._n_missing = sum(len(node.missing) for node in self.nodes)

    def _is_current(self, netmap: NetMap, node_id: UUID) -> bool:
        peer = netmap.peers.get(node_id)
        return peer is not None and peer.online and peer.endpoints[0][1] == self._port

    async def _move(self, node: SimulatedNode) -> list[float]:
        self._port = next(self._ports)
        self._moved, self._unheard, self._all_heard, self._heard = (
            node.node_id,
            len(node.partners),
            trio.Event(),
            [],
        )
        began = monotonic()
        node.move(self._port)
        await self._all_heard.wait()
        self._moved = None
        return [heard - began for heard in self._heard]


async def main(url: str, path: str) -> None:
    """Works off its orders."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with open(path, encoding="utf-8") as file:  # noqa: ASYNC230 -- nothing else runs yet
        fleet = Fleet(url, json.load(file))
    # What is timed is the server, not a search through all nodes' objects: each would have its own process.
    gc.disable()
    print("ready", flush=True)
    stdin = trio.wrap_file(sys.stdin)
    async with trio.open_nursery() as nursery:
        while line := await stdin.readline():
            order = json.loads(line)
            answer: dict[str, object] | None = None
            with trio.move_on_after(PATIENCE):
                answer = await _work(fleet, order, nursery)
            if answer is None:
                sys.exit(f"after {PATIENCE:.0f} s {fleet.shortfall()}")
            print(json.dumps(answer), flush=True)
        nursery.cancel_scope.cancel()


async def _work(fleet: Fleet, order: dict[str, object], nursery: trio.Nursery) -> dict[str, object]:
    match order["do"]:
        case "join":
            return await fleet.join(nursery)
        case "change":
            return await fleet.change(int(str(order["count"])))
        case "return":
            return fleet.expect_return()
        case "returned":
            return await fleet.returned()
    raise ValueError(f"no such order: {order}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
