"""What a modified peer gets through a tunnel: it holds the keys, and sends whatever it likes through its own WireGuard."""

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from coderd.model.netmap import NodeKind, PeerAccess
from coderd.model.ports import parse_ports
from tests.sim.world import OPEN, Pair
from tests.sim.world.node import Node
from tests.unit.packetfilter.support import (
    ACK,
    FRAGMENT,
    ICMP,
    RST,
    SYN,
    TCP,
    UDP,
    echo_body,
    error_body,
    fragment_body,
    ipv6,
    tcp_body,
    udp_body,
)

STRANGERS = ["::1", "fd00::1", "192.0.2.1", "2001:db8::1", "ff02::1"]


@pytest.fixture
def world() -> Pair:
    world = Pair(user=OPEN, dev=OPEN)
    world.join()
    return world


def address(node: Node) -> bytes:
    return node.identity.address.packed


def inject(world: Pair, sender: Node, *packets: bytes) -> None:
    """Sends packets past the sender's own filter and routes; WireGuard takes any that begin with a true address."""
    to = next(node for node in world.nodes if node is not sender)
    process = sender.running
    genuine = ipv6(address(sender), address(to), 59, b"")
    for packet in packets:
        process.core._device.handle_packets([genuine, packet], world.now, process.unix)
    process.drain()
    world.run_for(1)


def hostile_packets(sender: Node, to: Node, port: int = 22) -> list[bytes]:
    """Every way that we know to a port that is closed."""
    source, own = address(sender), address(to)
    syn, datagram = tcp_body(50000, port, SYN), udp_body(50000, port, b"x" * 16)
    others = [IPv6Address(each).packed for each in STRANGERS if ":" in each]
    return [
        *(
            ipv6(source, own, TCP, tcp_body(50000, port, flags))
            for flags in (SYN, SYN | 1, ACK, SYN | ACK, 0, 0x29, 4)
        ),
        ipv6(source, own, UDP, datagram),
        *(ipv6(source, other, TCP, syn) for other in others),
        *(ipv6(source, other, UDP, datagram) for other in others),
        *(ipv6(other, own, TCP, syn) for other in others),
        ipv6(own, own, TCP, syn),
        *(ipv6(source, own, header, bytes([TCP, 0]) + bytes(6) + syn) for header in (0, 43, 60, 51, 50, 139)),
        ipv6(source, own, FRAGMENT, fragment_body(TCP, 0, 1, syn)),
        ipv6(source, own, FRAGMENT, fragment_body(TCP, 0, 2, syn[:8])),
        ipv6(source, own, FRAGMENT, fragment_body(TCP, 1, 2, syn[8:], more=False)),
        ipv6(source, own, FRAGMENT, fragment_body(UDP, 0, 3, datagram)),
        ipv6(source, own, FRAGMENT, fragment_body(UDP, 3, 3, b"x" * 8, more=False)),
        ipv6(source, own, ICMP, echo_body(129, 7)),
        ipv6(source, own, ICMP, error_body(1, ipv6(own, source, TCP, syn))),
        ipv6(source, own, ICMP, bytes([137]) + bytes(40)),
        ipv6(source, own, 132, bytes(20)),
        ipv6(source, own, 41, ipv6(source, own, TCP, syn)),
        b"\x45\x00\x00\x28" + bytes(5) + b"\x06" + bytes(10) + syn,
    ]


def test_nothing_that_a_hostile_workspace_sends_reaches_a_device(world: Pair) -> None:
    packets = hostile_packets(world.dev, world.user)
    inject(world, world.dev, *packets)
    assert world.user.written == []
    counters = world.user.running.counters
    reasons = ("packetfilter.drop.", "wireguard.drop.other_destination", "wireguard.drop.foreign_source")
    # Beside each packet goes a true one that is too short for ports.
    assert sum(n for name, n in counters.items() if name.startswith(reasons)) == 2 * len(packets)
    assert counters["wireguard.drop.other_destination"] >= 8
    assert counters["wireguard.drop.foreign_source"] >= 4


def test_nothing_of_a_hostile_guest_reaches_what_its_share_does_not_name(world: Pair) -> None:
    narrow(world, world.dev, "8000")
    inject(world, world.user, *hostile_packets(world.user, world.dev))
    assert world.dev.written == []
    wanted = ipv6(address(world.user), address(world.dev), TCP, tcp_body(50000, 8000, SYN))
    inject(world, world.user, wanted)
    assert world.dev.written == [wanted]


def test_an_unmodified_pair_talks_both_ways_once_the_device_has_begun(world: Pair) -> None:
    world.dev.send(world.user, 1)
    world.run_for(1)
    assert world.user.arrived == []
    world.user.send(world.dev, 2)
    world.run_for(1)
    world.dev.send(world.user, 3)
    world.run_for(1)
    assert [number for _, number in world.dev.arrived] == [2]
    assert [number for _, number in world.user.arrived] == [3]


def test_who_is_refused_is_told_so_through_both_filters(world: Pair) -> None:
    """The device's refusal is an error that quotes a flow of the workspace's, so that its kernel gives up at once."""
    syn = ipv6(address(world.dev), address(world.user), TCP, tcp_body(40000, 22, SYN))
    world.dev.running.handle_tun(syn)
    world.run_for(1)
    assert world.user.written == []
    (refusal,) = world.dev.written
    assert (refusal[6], refusal[40:42], refusal[48:]) == (ICMP, b"\x01\x01", syn)


def test_a_daemon_that_is_killed_in_mid_stream_takes_the_stream_up_again(world: Pair) -> None:
    """The kernels at both ends notice nothing but lost packets; the device's acknowledges or repeats."""
    up = ipv6(address(world.user), address(world.dev), TCP, tcp_body(40000, 22, ACK))
    down = ipv6(address(world.dev), address(world.user), TCP, tcp_body(22, 40000, ACK, b"data"))
    world.user.running.handle_tun(up)
    world.run_for(1)
    for node in (world.user, world.dev):
        node.kill()
        node.start()
        world.run_until(world.is_joined, 10)
        world.user.written.clear()
        world.user.running.handle_tun(up)
        world.run_for(1)
        world.dev.running.handle_tun(down)
        world.run_for(1)
        assert down in world.user.written


def test_when_access_narrows_the_next_packet_of_what_stood_is_the_first_that_does_not_pass(
    world: Pair,
) -> None:
    narrow(world, world.dev, "22,8000")
    typed = ipv6(address(world.user), address(world.dev), TCP, tcp_body(50000, 22, ACK, b"typed"))
    output = ipv6(address(world.dev), address(world.user), TCP, tcp_body(22, 50000, ACK, b"output"))
    world.user.running.handle_tun(typed)
    world.run_for(1)
    world.dev.running.handle_tun(output)
    world.run_for(1)
    assert (world.dev.written, world.user.written) == ([typed], [output])
    narrow(world, world.dev, "8000")
    world.dev.running.handle_tun(output)
    world.user.running.handle_tun(typed)
    world.run_for(1)
    for node, passed in ((world.dev, typed), (world.user, output)):
        assert node.written[0] == passed
        assert node.written[1:]
        assert all(packet[53] & RST for packet in node.written[1:])  # so that both kernels drop it


def narrow(world: Pair, workspace: Node, ports: str) -> None:
    """The server says of every peer what it may reach."""
    assert workspace.identity.kind is NodeKind.WORKSPACE
    process = workspace.running
    netmap = process.client.netmap
    assert netmap is not None
    access = PeerAccess(parse_ports(ports), terminal=False)
    peers = {node_id: replace(peer, access=access) for node_id, peer in netmap.peers.items()}
    process.take_netmap(replace(netmap, peers=peers))
    process.drain()
