"""``scripts/bench``: our data path against a real peer's, in one run, on one pair of hosts; ratios, not boasts.

::

    user 198.51.100.2 ── core ── 203.0.113.2 dev        veth, no NAT, nothing shaped
      coder-user  ═════ ours ═════  coder-dev           the daemons as people run them
      wg0         ══ wireguard-go ══ wg0                the same addresses family, MTU and iperf3

Rounds alternate between ours and the peer, so that whatever else the machine does meets both. Both daemons and both ends
of iperf3 share the machine's cores.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import Host, Lab, LabError, until

PEER_NAME = "wireguard-go"
PEER_PORT = 51820
GIGA = 1e9
INNER = {"user": "fd00:be7c::1", "dev": "fd00:be7c::2"}


@dataclass(frozen=True)
class Case:
    """One thing that is measured: a name, iperf3's options, the tunnel's MTU."""

    name: str
    mtu: int
    options: tuple[str, ...] = ()


@dataclass
class Result:
    """What a case measured: a list of Gbit/s (or milliseconds) for each contender."""

    case: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The documented form: medians, with minimum and maximum beside."""
        ours = statistics.median(self.values["ours"])
        peers = {name: statistics.median(found) for name, found in self.values.items() if name != "ours"}
        return {
            "case": self.case,
            "unit": self.unit,
            "ours": round(ours, 3),
            "peers": {name: round(value, 3) for name, value in peers.items()},
            "ratio": {name: round(ours / value, 3) for name, value in peers.items()},
            "range": {name: [round(min(v), 3), round(max(v), 3)] for name, v in self.values.items()},
        }


def cases(mtus: Sequence[int]) -> Iterator[Case]:
    """One stream and four, towards the user and away, both directions at once."""
    for mtu in mtus:
        yield Case(f"tcp-1-down-mtu{mtu}-v6", mtu, ("-R",))
        yield Case(f"tcp-1-up-mtu{mtu}-v6", mtu)
        yield Case(f"tcp-many-down-mtu{mtu}-v6", mtu, ("-R", "-P", "4"))
        yield Case(f"tcp-1-both-mtu{mtu}-v6", mtu, ("--bidir",))


@contextmanager
def ours(lab: Lab, mtu: int) -> Iterator[str]:
    """Our two daemons, joined and direct; yields dev's address inside."""
    token = lab.server.create_workspace(f"dev{mtu}")
    lab.dev.join_as_workspace(lab.server.url, token, "--mtu", str(mtu))
    lab.user.join_as_user(lab.server.url, lab.server.admin_token, "--mtu", str(mtu))
    try:
        lab.user.wait_for_peer(f"dev{mtu}")
        lab.user.wait_for_path(f"dev{mtu}", "direct")
        peer = lab.user.peer(f"dev{mtu}")
        assert peer is not None
        yield str(peer["address"])
    finally:
        for node in (lab.user, lab.dev):
            if node.daemon is not None:
                node.daemon.stop()


@contextmanager
def theirs(lab: Lab, program: str, mtu: int) -> Iterator[str]:
    """Two wireguard-go (or anything called like it) with a static configuration; yields dev's address inside."""
    hosts = {"user": lab.user.host, "dev": lab.dev.host}
    keys = {name: host.run(["wg", "genkey"]).stdout.strip() for name, host in hosts.items()}
    public = {name: hosts[name].run(["wg", "pubkey"], input=key).stdout.strip() for name, key in keys.items()}
    outer = {"user": "198.51.100.2", "dev": "203.0.113.2"}
    daemons = []
    try:
        for name, host in hosts.items():
            other = "dev" if name == "user" else "user"
            daemons.append(host.start([program, "wg0"], env={"WG_PROCESS_FOREGROUND": "1"}, name=program))
            until(lambda host=host: _has_socket(host), f"{program} to answer", timeout=10)
            host.run(
                ["wg", "setconf", "wg0", "/dev/stdin"],
                input=f"[Interface]\nPrivateKey={keys[name]}\nListenPort={PEER_PORT}\n"
                f"[Peer]\nPublicKey={public[other]}\nEndpoint={outer[other]}:{PEER_PORT}\n"
                f"AllowedIPs={INNER[other]}/128\n",
            )
            host.ip(
                "link set wg0 addrgenmode none",
                f"link set wg0 mtu {mtu}",
                "link set wg0 up",
                f"address add {INNER[name]}/64 dev wg0 nodad",
            )
        yield INNER["dev"]
    finally:
        for daemon in daemons:
            daemon.stop()


def _has_socket(host: Host) -> bool:
    return host.path("/run/wireguard/wg0.sock").exists()


def iperf(lab: Lab, address: str, options: Sequence[str], seconds: float) -> float:
    """One iperf3 run from the user to an address on dev; Gbit/s received, both directions added up."""
    server = lab.dev.host.start(["iperf3", "--server", "--one-off", "--forceflush"], name="iperf3 -s")
    try:
        server.wait_for("Server listening")
        argv = ["iperf3", "--client", address, "--time", f"{seconds:g}", "--omit", "1", "--json", *options]
        end = json.loads(lab.user.run(argv, timeout=seconds + 30))["end"]
        received = end["sum_received"]["bits_per_second"]
        return float(received + end.get("sum_received_bidir_reverse", {}).get("bits_per_second", 0.0)) / GIGA
    finally:
        server.stop()


def round_trip(lab: Lab, address: str) -> float:
    """The median round trip of 100 echoes, in milliseconds."""
    out = lab.user.run(
        ["ping", "-6" if ":" in address else "-4", "-c", "100", "-i", "0.01", address], timeout=30
    )
    times = [float(line.partition("time=")[2].split()[0]) for line in out.splitlines() if "time=" in line]
    return statistics.median(times)


def throughput(options: argparse.Namespace, say: Callable[[str], None]) -> list[Result]:
    """All cases, rounds alternating between the contenders."""
    results = {case.name: Result(case.name, "Gbit/s") for case in cases(options.mtu)}
    contenders: dict[str, str | None] = {"ours": None, **{Path(peer).name: peer for peer in options.peer}}
    round_trips = Result("rtt", "ms")
    with Lab("no-nat") as lab:
        lab.server.start()
        bare = [iperf(lab, "203.0.113.2", ("-R",), options.seconds)]
        say(f"without a tunnel: {bare[0]:.1f} Gbit/s, round trip {round_trip(lab, '203.0.113.2'):.2f} ms")
        for mtu in options.mtu:
            for number in range(options.rounds):
                for name, program in contenders.items():
                    say(f"MTU {mtu}, round {number + 1} of {options.rounds}: {name}")
                    with _contender(lab, program, mtu, number) as address:
                        for case in cases([mtu]):
                            value = iperf(lab, address, case.options, options.seconds)
                            results[case.name].values.setdefault(name, []).append(value)
                            say(f"  {case.name}: {value:.2f} Gbit/s")
                        round_trips.values.setdefault(name, []).append(round_trip(lab, address))
    return [*results.values(), round_trips]


@contextmanager
def _contender(lab: Lab, program: str | None, mtu: int, number: int) -> Iterator[str]:
    if program is not None:
        with theirs(lab, program, mtu) as address:
            yield address
    else:
        with ours(lab, mtu) as address:
            yield address


def machine() -> str:
    """The machine in a few words."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def table(results: Sequence[Result]) -> str:
    """The results for people: a Markdown table."""
    peers = [name for name in results[0].values if name != "ours"]
    head = ["case", "unit", "ours", *peers, *(f"ours / {name}" for name in peers)]
    rows = [head, ["---"] * len(head)]
    for result in results:
        found = result.as_json()
        cells = {
            name: f"{statistics.median(v):.2f} ({min(v):.2f}–{max(v):.2f})"
            for name, v in result.values.items()
        }
        ratio = found["ratio"]
        assert isinstance(ratio, dict)
        rows.append(
            [
                result.case,
                result.unit,
                cells["ours"],
                *(cells[p] for p in peers),
                *(f"{ratio[p]:.2f}" for p in peers),
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    """Parses the command line and runs; 0, or 125 when the laboratory fails."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["throughput"])
    parser.add_argument(
        "--peer", action="append", default=None, metavar="PATH", help="another wireguard-go to compare with"
    )
    parser.add_argument(
        "--mtu", action="append", type=int, default=None, help="tunnel MTU; repeatable (1280 and 1420)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each iperf3 run")
    parser.add_argument("--json", action="store_true", help="JSON to stdout instead of the table")
    options = parser.parse_args()
    options.peer = options.peer or [PEER_NAME]
    options.mtu = options.mtu or [1280, 1420]
    try:
        results = throughput(options, lambda text: print(text, file=sys.stderr, flush=True))
    except LabError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 125
    if options.json:
        print(
            json.dumps(
                {
                    "machine": machine(),
                    "date": time.strftime("%Y-%m-%d"),
                    "cases": [result.as_json() for result in results],
                },
                indent=2,
            )
        )
    else:
        print(f"{time.strftime('%Y-%m-%d')}, {machine()}\n\n{table(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
