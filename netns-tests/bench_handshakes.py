"""``scripts/bench handshakes``.

How many handshakes a core answers, ours and a real peer's, and what a flood of them costs.

::

    user ─────────────── core ─────────────── dev
      ours0 (coderd wireguard)                  wg0 (wireguard-go)
                          eve: a thousand peers of both, each with an initiation made beforehand; then a flood

Never more than a few dozen are under way, so that nobody calls for cookies; a handshake's cost is the
daemon's CPU time.
"""

import argparse
import os
import random
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

from bench.report import add_form_options, load, print_json, publish_text
from flood import Feeling, Flood, cpu_seconds, ping, wait_idle
from lab import Host, Lab, LabError
from tunnels import (
    NO_ANSWERS,
    PORT,
    End,
    connect,
    daemon_behind,
    outer_addresses,
    start_ours,
    start_theirs,
)

from coderd.model.keys import NodePrivate, NodePublic
from coderd.wireguard import Device
from coderd.wireguard.message import RESPONSE_SIZE

WINDOW = 32
FLOOD_RATES = (0, 5_000, 20_000, 100_000)
"""Per second; the sender keeps to what the machine allows, which is less than the last."""
FLOOD_SECONDS = 3.0


def initiations(receiver: bytes, keys: list[NodePrivate]) -> list[bytes]:
    """One from each key."""
    made = []
    for key in keys:
        device = Device(rng=os.urandom, now=0.0)
        device.set_private_key(key, 0.0)
        device.set_peer(NodePublic(receiver), 0.0)
        device.up(0.0)
        device.initiate(NodePublic(receiver), 0.0, time.time())
        transmit = device.poll_transmit()
        assert transmit is not None
        made += transmit.datagrams
    return made


def answered_per_core(end: End, from_host: Host, keys: list[NodePrivate]) -> float:
    """Handshakes that a daemon answers per second of its CPU time."""
    lines = "".join(f"[Peer]\nPublicKey={b64encode(key.public()).decode()}\n" for key in keys)
    end.wg("addconf", end.interface, "/dev/stdin", input=lines)
    pid, _ = daemon_behind(end.host, end.interface)
    datagrams = initiations(b64decode(end.public), keys)
    wait_idle(pid)
    before, n_answered = cpu_seconds(pid), 0
    with from_host.udp("0.0.0.0") as sock:
        sock.settimeout(1.0)
        for at in range(0, len(datagrams), WINDOW):
            window = datagrams[at : at + WINDOW]
            for datagram in window:
                sock.sendto(datagram, (end.outer, PORT))
            try:
                for _ in window:
                    n_answered += len(sock.recv(2048)) == RESPONSE_SIZE
            except TimeoutError:
                continue
    wait_idle(pid)
    return n_answered / max(cpu_seconds(pid) - before, 0.01)


def engine_rate(n: int = 500) -> dict[str, float]:
    """Handshakes per second of the pure engine on one core, by role, without sockets."""
    rng = random.Random(1).randbytes
    server_key, keys = NodePrivate.generate(rng), [NodePrivate.generate(rng) for _ in range(n)]
    server = Device(rng=rng, now=0.0)
    server.set_private_key(server_key, 0.0)
    clients = []
    for number, key in enumerate(keys):
        server.set_peer(key.public(), 0.0, allowed_ips=[ip_network(f"10.{number >> 8}.{number & 255}.1")])
        client = Device(rng=rng, now=0.0)
        client.set_private_key(key, 0.0)
        client.set_peer(server_key.public(), 0.0)
        client.up(0.0)
        clients.append(client)
    server.up(0.0)
    initiator, responder = 0.0, 0.0
    for client in clients:
        responses: list[bytes] = []
        initiator += timed(lambda client=client: client.initiate(server_key.public(), 0.0, 1e9))
        sent = drained(client)
        responder += timed(lambda sent=sent: server.handle_datagrams(Nowhere(), sent, 0.0, 1e9))
        responses = drained(server)
        initiator += timed(
            lambda client=client, responses=responses: client.handle_datagrams(Nowhere(), responses, 0.0, 1e9)
        )
        server.handle_datagrams(Nowhere(), drained(client), 0.0, 1e9)
    return {"initiator": n / initiator, "responder": n / responder}


class Nowhere:
    """A source that is never answered."""

    cookie_bytes = b"\x7f\0\0\1\0\1"


def drained(device: Device) -> list[bytes]:
    """All that a device wants to send."""
    return [each for transmit in iter(device.poll_transmit, None) for each in transmit.datagrams]


def timed(action: Callable[[], object]) -> float:
    """Seconds of CPU."""
    began = time.process_time()
    action()
    return time.process_time() - began


def measure(n_peers: int) -> dict[str, object]:
    """Everything, in one laboratory."""
    keys = [NodePrivate.generate(os.urandom) for _ in range(n_peers)]
    with Lab(NO_ANSWERS[4]) as lab:
        ours, theirs = End(lab.user.host, "ours0", 0), End(lab.dev.host, "wg0", 1)
        for end in (ours, theirs):
            (end.outer,) = outer_addresses(end.host, 4)
        start_ours(ours.host, ours.interface)
        theirs.daemon = start_theirs(theirs.host, theirs.interface)
        connect(ours, theirs)
        ours.ping(theirs)
        eve = lab.add_host("eve")
        rates = {
            name: answered_per_core(end, eve, keys) for name, end in (("ours", ours), ("theirs", theirs))
        }
        floods = [
            {"per_second": rate, "on": name, **felt_under(eve, end, peer, rate)}
            for rate in FLOOD_RATES
            for name, end, peer in (("ours", ours, theirs), ("wireguard-go", theirs, ours))
        ]
    engine = engine_rate()
    return {
        "case": "handshakes",
        "unit": "answered per CPU second",
        "ours": round(rates["ours"]),
        "peers": {"wireguard-go": round(rates["theirs"])},
        "ratio": {"wireguard-go": round(rates["ours"] / rates["theirs"], 3)},
        "engine": {role: round(rate) for role, rate in engine.items()},
        "floods": floods,
    }


def felt_under(eve: Host, end: End, peer: End, rate: float) -> dict[str, float]:
    """Pings through a tunnel while one of its ends is flooded."""
    n_pings = int(FLOOD_SECONDS / 0.05)
    before = kernel_drops(end.host)
    if not rate:
        return as_row(ping(end, peer, n_pings), 0)
    with Flood(eve, end.outer, b64decode(end.public), n=int(rate * FLOOD_SECONDS), rate=rate):
        felt = ping(end, peer, n_pings)
    return as_row(felt, kernel_drops(end.host) - before)


def kernel_drops(host: Host) -> int:
    """Datagrams for which the WireGuard socket's buffer had no room."""
    lines = Path(f"/proc/{host.pid}/net/udp").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[-1]) for line in lines if f":{PORT:04X} " in line)


def as_row(felt: Feeling, n_dropped: int) -> dict[str, float]:
    """Loss as a share, round trip in ms."""
    return {
        "lost": round(1 - felt.n_answered / felt.n_sent, 3),
        "median_ms": round(felt.median_ms, 2),
        "kernel_drops": n_dropped,
    }


def text(result: dict[str, object]) -> str:
    """For people."""
    floods = result["floods"]
    assert isinstance(floods, list)
    engine, peers = result["engine"], result["peers"]
    assert isinstance(engine, dict)
    assert isinstance(peers, dict)
    lines = [
        f"Answered per CPU second: ours {result['ours']}, wireguard-go {peers['wireguard-go']}.",
        f"Our engine alone, one core: {engine['responder']} answered, {engine['initiator']} begun and finished.",
        "",
        "| initiations/s, half with a true MAC1 | at | pings lost | median round trip | dropped by the kernel |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {flood['per_second']} | {flood['on']} | {flood['lost']:.1%} | {flood['median_ms']} ms "
        f"| {flood['kernel_drops']} |"
        for flood in floods
    ]
    return "\n".join(lines)


def main() -> int:
    """Parses the command line and runs; 0, or 125 when the laboratory fails."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench handshakes", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peers", type=int, default=1000, help="how many shake hands")
    add_form_options(parser)
    options, busy = parser.parse_args(), load()
    try:
        result = measure(options.peers)
        if options.json:
            print_json([result], [busy])
        else:
            publish_text(text(result), [busy], "handshakes" if options.write else None)
    except LabError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 125
    return 0


if __name__ == "__main__":
    sys.exit(main())
