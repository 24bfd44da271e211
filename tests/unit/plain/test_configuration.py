"""What ``wg`` asks, done to a device: what is merged, what is replaced, what is left alone."""

import random
from collections import Counter

import pytest

from coderd.model.keys import NodePrivate
from coderd.plain.configuration import apply, describe
from coderd.plain.paths import PlainPaths
from coderd.wireguard import Device
from coderd.wireguard.uapi import PeerDescription, parse_set

OWN = NodePrivate(bytes([1]) * 32)
PEER, OTHER = (NodePrivate(bytes([n]) * 32).public().hex() for n in (2, 3))


class World:
    """A device and its endpoints."""

    def __init__(self) -> None:
        self.device = Device(rng=random.Random(1).randbytes, now=0.0)
        self.paths = PlainPaths(counters=Counter())

    def set(self, *lines: str) -> None:
        apply(parse_set(lines, lambda zone: None), self.device, self.paths, 0.0)

    def peers(self) -> dict[str, PeerDescription]:
        told = describe(self.device, self.paths, 0.0, listen_port=0, fwmark=0, handshakes={})
        return {peer.status.key.hex(): peer for peer in told.peers}

    def allowed(self, key: str) -> list[str]:
        return [str(network) for network in self.peers()[key].status.allowed_ips]


@pytest.fixture
def world() -> World:
    return World()


def test_setting_a_peer_again_merges(world: World) -> None:
    world.set(
        f"public_key={PEER}",
        "endpoint=192.0.2.1:7",
        "allowed_ip=10.0.0.0/8",
        f"preshared_key={OTHER}",
        "persistent_keepalive_interval=9",
    )
    world.set(f"public_key={PEER}", "allowed_ip=10.1.0.0/16")
    peer = world.peers()[PEER]
    assert peer.endpoint == ("192.0.2.1", 7)
    assert peer.preshared_key.hex() == OTHER
    assert peer.status.persistent_keepalive == 9
    assert world.allowed(PEER) == ["10.0.0.0/8", "10.1.0.0/16"]


def test_prefixes_are_replaced_taken_away_and_moved(world: World) -> None:
    world.set(f"public_key={PEER}", "allowed_ip=10.0.0.0/8", "allowed_ip=10.1.0.0/16", "allowed_ip=fd00::/64")
    world.set(f"public_key={PEER}", "allowed_ip=-10.1.0.0/16")
    assert world.allowed(PEER) == ["10.0.0.0/8", "fd00::/64"]
    world.set(f"public_key={OTHER}", "allowed_ip=-fd00::/64", "allowed_ip=10.0.0.0/8")
    assert (world.allowed(PEER), world.allowed(OTHER)) == (["fd00::/64"], ["10.0.0.0/8"])
    world.set(f"public_key={PEER}", "replace_allowed_ips=true")
    assert world.allowed(PEER) == []


def test_update_only_makes_no_peer_and_changes_one_that_is(world: World) -> None:
    world.set(f"public_key={PEER}", "update_only=true", "endpoint=192.0.2.1:7", "allowed_ip=10.0.0.0/8")
    assert world.peers() == {}
    world.set(f"public_key={PEER}", "remove=true", "allowed_ip=10.0.0.0/8")
    assert world.peers() == {}
    world.set(f"public_key={PEER}")
    world.set(f"public_key={PEER}", "update_only=true", "endpoint=192.0.2.1:7")
    assert world.peers()[PEER].endpoint == ("192.0.2.1", 7)


def test_a_removed_peer_comes_back_without_anything(world: World) -> None:
    world.set(f"public_key={PEER}", "endpoint=192.0.2.1:7", "allowed_ip=10.0.0.0/8")
    world.set(f"public_key={PEER}", "remove=true")
    world.set(f"public_key={PEER}")
    assert world.peers()[PEER].endpoint is None
    assert world.allowed(PEER) == []


def test_replacing_peers_keeps_those_that_follow(world: World) -> None:
    world.set(f"public_key={PEER}", "endpoint=192.0.2.1:7", f"public_key={OTHER}")
    world.set("replace_peers=true", f"public_key={OTHER}")
    assert list(world.peers()) == [OTHER]


def test_our_own_key_is_no_peer_whichever_came_first(world: World) -> None:
    own = OWN.public().hex()
    world.set(f"public_key={own}", "endpoint=192.0.2.1:7")
    world.set(f"private_key={OWN.raw.hex()}")
    assert world.peers() == {}
    world.set(f"public_key={own}", "endpoint=192.0.2.1:7", "allowed_ip=10.0.0.0/8", f"public_key={PEER}")
    assert list(world.peers()) == [PEER]
    assert world.paths.endpoint(OWN.public()) is None


def test_the_private_key_goes_as_it_came(world: World) -> None:
    world.set(f"private_key={OWN.raw.hex()}")
    assert world.device.secrets().private_key == OWN
    world.set("fwmark=1")
    assert world.device.secrets().private_key == OWN
    world.set("private_key=" + "0" * 64)
    assert world.device.secrets().private_key is None


def test_a_handshake_that_a_peer_of_the_same_key_had_before_is_not_told(world: World) -> None:
    world.set(f"public_key={PEER}")
    key = next(iter(world.peers().values())).status.key
    told = describe(world.device, world.paths, 0.0, listen_port=1, fwmark=2, handshakes={key: 1.7e9})
    assert told.peers[0].last_handshake_at is None
    assert (told.listen_port, told.fwmark) == (1, 2)


def test_secrets_do_not_print_themselves(world: World) -> None:
    world.set(f"private_key={OWN.raw.hex()}", f"public_key={PEER}", f"preshared_key={OTHER}")
    assert OTHER not in repr(world.device.secrets())
    assert repr(world.device.secrets()) == "<DeviceSecrets redacted>"
