"""Whole nodes through one relay.

TCP inside tunnels that may not go direct, beside plain TCP between the same hosts.

Pairs run on hosts of their own, all with public addresses; the server lets nobody go direct, so every packet
goes through its one process. The peer to compare with is the network itself, and the same TCP through
haproxy, a relay of plain streams in C.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from lab import Host, Lab, LabError, Process
from lab.nodes import Node
from lab.topology import Service, Site, Topology
from lab.waiting import until

from bench.results import OURS, Results

GIGA = 1e9
WARM_UP = 1
IPERF_PORT = 5201
PLAIN = "plain TCP"
HAPROXY = "haproxy"


@dataclass(frozen=True)
class Pair:
    """A user and a workspace that know each other, and where the workspace is inside."""

    user: Node
    dev: Node
    address: str


@contextmanager
def pairs(n_pairs: int, *, is_tls: bool) -> Iterator[tuple[Lab, list[Pair]]]:
    """A laboratory with so many pairs, all relayed by the server."""
    topology = Topology(
        "public addresses, everything by the relay",
        user=Site(),
        dev=Site(),
        service=Service(is_encrypted=is_tls, blocks_direct=True),
    )
    with Lab(topology) as lab, ExitStack() as stack:
        lab.server.start()
        yield lab, [_join(lab, number, stack) for number in range(n_pairs)]


def _join(lab: Lab, number: int, stack: ExitStack) -> Pair:
    user, dev = (
        (lab.user, lab.dev) if number == 0 else (_guest(lab, "user", number), _guest(lab, "dev", number))
    )
    for node in (user, dev):
        stack.callback(_stop, node)
    name = f"dev{number}"
    dev.join_as_workspace(lab.server.url, lab.server.create_workspace(name))
    user.join_as_user(lab.server.url, lab.server.admin_token)
    user.wait_for_peer(name)
    user.wait_for_path(name, "relay")
    peer = user.peer(name)
    assert peer is not None
    return Pair(user, dev, str(peer["address"]))


def _guest(lab: Lab, kind: str, number: int) -> Node:
    return Node(lab.add_host(f"{kind}{number}"))


def _stop(node: Node) -> None:
    if node.daemon is not None:
        node.daemon.stop()


def measure(results: Results, n_pairs: int, *, is_tls: bool, rounds: int, seconds: int) -> None:
    """Gbit/s of all pairs together: by the tunnels, by plain TCP, by haproxy on the relay's host."""
    case = f"nodes-{n_pairs}{'-tls' if is_tls else ''}"
    with pairs(n_pairs, is_tls=is_tls) as (lab, found), ExitStack() as stack:
        outer = [_outer(pair.dev.host) for pair in found]
        proxy = stack.enter_context(haproxy(lab.server.host, outer))
        for _ in range(rounds):
            ways: list[tuple[str, Sequence[tuple[str, int]]]] = [
                (OURS, [(pair.address, IPERF_PORT) for pair in found]),
                (PLAIN, [(address, IPERF_PORT) for address in outer]),
                (HAPROXY, [(lab.server.address, port) for port in proxy]),
            ]
            for name, targets in ways:
                results.add(case, "Gbit/s", name, transfer(found, targets, seconds))


def transfer(found: Sequence[Pair], targets: Sequence[tuple[str, int]], seconds: int) -> float:
    """Gbit/s that arrived of one stream from each user to its target, all at once."""
    with ExitStack() as stack:
        for pair in found:
            server = stack.enter_context(
                pair.dev.host.start(["iperf3", "--server", "--one-off", "--forceflush"], name="iperf3 -s")
            )
            server.wait_for("Server listening")
        clients = [
            stack.enter_context(pair.user.host.popen(_client(target, seconds), stdout=-1))
            for pair, target in zip(found, targets, strict=True)
        ]
        return sum(_received(client.communicate(timeout=seconds + 30)[0]) for client in clients)


def _client(target: tuple[str, int], seconds: int) -> list[str]:
    address, port = target
    return [
        "iperf3",
        "--client",
        address,
        "--port",
        str(port),
        "--time",
        str(seconds),
        "--omit",
        str(WARM_UP),
        "--json",
    ]


def _received(output: bytes) -> float:
    try:
        return float(json.loads(output)["end"]["sum_received"]["bits_per_second"]) / GIGA
    except (ValueError, KeyError) as error:
        raise LabError(f"iperf3 failed: {output[-200:]!r}") from error


def _outer(host: Host) -> str:
    shown = json.loads(host.run(["ip", "-4", "-json", "address", "show", "dev", "eth0"]).stdout)
    return str(shown[0]["addr_info"][0]["local"])


@contextmanager
def haproxy(host: Host, targets: Sequence[str]) -> Iterator[list[int]]:
    """A relay of plain TCP on a host: a port for each target."""
    ports = [6201 + number for number in range(len(targets))]
    text = "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
    for port, target in zip(ports, targets, strict=True):
        text += f"listen to{port}\n  bind :{port}\n  server dev {target}:{IPERF_PORT}\n"
    file = host.path("/run/bench-haproxy.cfg")
    file.write_text(text, encoding="utf-8")
    with host.start(["haproxy", "-db", "-f", "/run/bench-haproxy.cfg"], name="haproxy") as process:
        _wait_for(host, ports, process)
        yield ports


def _wait_for(host: Host, ports: Sequence[int], process: Process) -> None:
    def is_up() -> bool:
        if not process.is_running:
            raise LabError("haproxy ended")
        with suppress(OSError):
            return all(host.answers_tcp("127.0.0.1", port) for port in ports)
        return False

    until(is_up, "haproxy to listen")
