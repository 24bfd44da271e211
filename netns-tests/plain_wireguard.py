"""Our engine as a stock WireGuard with one peer, configured by JSON on stdin: for tests against other implementations."""

import base64
import json
import os
import sys
from collections import Counter
from ipaddress import ip_interface, ip_network
from typing import Any

import trio

from coderd.engine.dataplane import DataPlane
from coderd.engine.io.clock import BootClock
from coderd.engine.io.driver import Driver
from coderd.engine.plain import PlainPaths
from coderd.magicsock import DerpTransmit
from coderd.magicsock.io.sockets import UdpSockets
from coderd.metrics import Counters
from coderd.model.addresses import parse_addr_port
from coderd.model.keys import NodePrivate, NodePublic
from coderd.tun.io.device import TunDevice
from coderd.tun.io.router import Router
from coderd.wireguard import Device


class NoLinks:
    """Nothing is ever relayed."""

    def send_nowait(self, transmit: DerpTransmit) -> None:
        raise AssertionError("plain paths have no relay")


async def main(config: dict[str, Any]) -> None:
    counters: Counters = Counter()
    now = trio.current_time()
    peer = NodePublic(base64.b64decode(config["peer"]))
    device = Device(rng=os.urandom, now=now, mtu=config["mtu"], counters=counters)
    device.set_private_key(NodePrivate(base64.b64decode(config["private_key"])), now)
    device.set_peer(
        peer,
        now,
        preshared_key=base64.b64decode(config["preshared_key"]) or None,
        allowed_ips=[ip_network(network) for network in config["allowed_ips"]],
    )
    paths = PlainPaths(counters=counters)
    paths.set_endpoint(peer, parse_addr_port(config["endpoint"]))
    tun = TunDevice.open(config["interface"])
    sockets = UdpSockets.open(config["listen_port"], counters=counters)
    driver = Driver(
        DataPlane(device, paths, uso=tun.offloads.uso, counters=counters),
        tun,
        sockets,
        NoLinks(),
        on_event=lambda event: None,
        on_drained=lambda: None,
        on_send_error=lambda addr, error, when: None,
        counters=counters,
    )
    device.up(now)
    await Router(tun.name).configure(
        [ip_interface(address) for address in config["addresses"]], config["mtu"]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        print("ready", flush=True)


if __name__ == "__main__":
    trio.run(main, json.load(sys.stdin), clock=BootClock())
