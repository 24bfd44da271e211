"""A node as one machine: whose word on a peer is in force, and how much one drain does."""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest

from coderd.engine import node as node_module
from coderd.engine.commands import Command, ListenAt, ResolveRelays, SaveMark, TellServer
from coderd.engine.introduction import Introduced
from coderd.engine.node import Node
from coderd.engine.pins import Pins
from coderd.model.keys import DiscoPublic, NodePrivate, NodePublic
from coderd.model.netmap import NetMap, NodeKind, Peer
from coderd.model.paths import PathKind, Pin
from coderd.packetfilter import PacketFilter
from tests.shell.daemon_world import make_netmap, make_peer

NOW, UNIX = 1000.0, 1.7e9
PHONE = make_peer("ann/phone", 3, kind=NodeKind.DEVICE)
AGAIN = DiscoPublic(bytes([203]) * 32)
CommandT = TypeVar("CommandT")


def make_node() -> Node:
    rng, counters = Random(1).randbytes, Counter[str]()
    return Node(
        NodePrivate.generate(rng),
        PacketFilter(counters=counters),
        rng=rng,
        now=NOW,
        mtu=1280,
        counters=counters,
    )


def take(node: Node, *peers: Peer) -> NetMap:
    node.set_netmap(make_netmap(*peers, kind=NodeKind.WORKSPACE), now=NOW, unix_now=UNIX)
    assert node.netmap is not None
    return node.netmap


def start_of(node: Node) -> tuple[DiscoPublic, int]:
    assert node.netmap is not None
    peer = node.netmap.peers[PHONE.node_id]
    return peer.disco_key, peer.generation


def introduce(node: Node, disco_key: DiscoPublic, generation: int) -> None:
    said = Introduced(PHONE.node_key, disco_key, generation)
    node._handle_plane_event(said, NOW, UNIX)


def commands(node: Node, kind: type[CommandT]) -> list[CommandT]:
    node.drain(NOW, UNIX)
    found: list[Command] = list(iter(node.poll_command, None))
    return [command for command in found if isinstance(command, kind)]


def test_a_peers_own_word_stays_in_force_while_the_server_repeats_its_old_one() -> None:
    node = make_node()
    take(node, PHONE)
    introduce(node, AGAIN, 7)
    assert start_of(node) == (AGAIN, 7)
    take(node, PHONE, make_peer("ann/tablet", 4, kind=NodeKind.DEVICE))
    assert start_of(node) == (AGAIN, 7)


def test_anything_else_that_the_server_says_of_a_peers_start_is_in_force() -> None:
    node = make_node()
    take(node, PHONE)
    introduce(node, AGAIN, 7)
    take(node, replace(PHONE, generation=9))
    assert start_of(node) == (PHONE.disco_key, 9)
    take(node, PHONE)
    assert start_of(node) == (PHONE.disco_key, PHONE.generation)


def test_a_peer_that_restarts_twice_is_held_against_what_the_server_said_first() -> None:
    node = make_node()
    take(node, PHONE)
    introduce(node, AGAIN, 7)
    introduce(node, AGAIN, 8)
    take(node, PHONE)
    assert start_of(node) == (AGAIN, 8)


def test_a_peer_that_was_away_is_believed_anew() -> None:
    node = make_node()
    take(node, PHONE)
    introduce(node, AGAIN, 7)
    take(node)
    take(node, PHONE)
    assert start_of(node) == (PHONE.disco_key, PHONE.generation)


def test_a_drain_ends_so_many_events_and_the_rest_is_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "EVENTS_PER_TURN", 1)
    node = make_node()
    take(node, PHONE)
    node.set_local_endpoints(41641, None, ["192.0.2.7"], NOW)
    assert node.netmap is not None
    node.set_relays(node.netmap.derp_map, {}, NOW)
    n_turns, found = 0, list[Command]()
    while True:
        node.drain(NOW, UNIX)
        found += iter(node.poll_command, None)
        n_turns += 1
        deadline = node.poll_timeout()
        if deadline is None or deadline.when > NOW or deadline.why != "more":
            break
    assert n_turns > 1
    assert any(isinstance(command, TellServer) for command in found)


def test_the_relays_of_a_map_are_resolved_once() -> None:
    node = make_node()
    netmap = take(node, PHONE)
    assert commands(node, ResolveRelays) == [ResolveRelays(netmap.derp_map)]
    take(node)
    assert commands(node, ResolveRelays) == []


def test_a_start_keeps_a_mark_before_any_handshake() -> None:
    node = make_node()
    node.up(NOW, UNIX)
    assert len(commands(node, SaveMark)) == 1
    assert node.tai64n_mark is None


def test_a_node_without_a_map_wants_nothing_and_knows_nobody() -> None:
    node = make_node()
    assert commands(node, ListenAt) == []
    assert node.path(PHONE.node_key).kind is PathKind.NONE
    assert list(node.paths(NOW)) == []


def test_of_two_pins_the_first_counts_until_it_is_taken_back() -> None:
    pins, peer = Pins(), NodePublic(bytes(32))
    pins.add(peer, Pin.ANY)
    pins.add(peer, Pin.RELAY)
    pins.add(peer, Pin.DIRECT)
    assert pins.of(peer) is Pin.RELAY
    pins.remove(peer, Pin.RELAY)
    assert pins.of(peer) is Pin.DIRECT
    pins.remove(peer, Pin.DIRECT)
    pins.remove(peer, Pin.ANY)
    assert (pins.of(peer), pins.peers()) == (Pin.ANY, set())
