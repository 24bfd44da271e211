"""``scripts/bench outside``: is the tunnel as fast as connecting outside?

::

    user ──[ tbf ]── core ──[ tbf ]── dev        plain TCP between the two, and TCP through the tunnel, in turns

Each direction is shaped once, where it leaves the core.
"""

import argparse
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lab import Host, Lab

from bench.contenders import OUTER, Place, Tunnel, nodes, plain
from bench.instruments import iperf, round_trip
from bench.laboratory import laboratory
from bench.report import add_form_options, load, publish, say
from bench.results import OURS, Result, Results, markdown

OUTSIDE = "outside"
PORTS = ("to-user", "to-dev")
LONGEST_WAIT = "20ms"
"""What a link's queue holds: as much as it sends in this time."""
DEFAULT_MTU = {"node": 1280, "wireguard": 1420}


@dataclass(frozen=True)
class Link:
    """One speed of the way between the hosts."""

    name: str
    megabits: int | None
    """None: not shaped."""

    @property
    def burst(self) -> int:
        """Bytes at once: a millisecond's, but no less than a super-packet, which would else be cut."""
        return max(80_000, (self.megabits or 0) * 125)


LINKS = (
    Link("100 Mbit/s", 100),
    Link("1 Gbit/s", 1000),
    Link("2.5 Gbit/s", 2500),
    Link("unshaped", None),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own part of the command line."""
    parser.add_argument(
        "--ours",
        choices=list(DEFAULT_MTU),
        default="node",
        help="what the tunnel is: whole daemons (the default), or `coderd wireguard`",
    )
    parser.add_argument("--mtu", type=int, default=None, help="of the tunnel (1280; `coderd wireguard` 1420)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, on each link (3)")
    parser.add_argument("--seconds", type=int, default=3, help="of each transfer, without its first (3)")
    add_form_options(parser)


def run(options: argparse.Namespace) -> None:
    """Everything, and out with it."""
    results, busy = Results(), load()
    mtu = options.mtu or DEFAULT_MTU[options.ours]
    with laboratory() as lab, tunnel_of(options.ours, lab, mtu) as tunnel:
        address = tunnel.addresses[max(tunnel.addresses)]
        for link in LINKS:
            shape(lab.internet.core, link)
            for number in range(options.rounds):
                say(f"{link.name}, round {number + 1} of {options.rounds}")
                turns = [(OUTSIDE, OUTER["dev"]), (OURS, address)]
                for name, where in turns[:: -1 if number % 2 else 1]:
                    measure(results, lab, link, name, where, options.seconds)
    notes = [
        f"The tunnel is {'that of whole daemons' if options.ours == 'node' else '`coderd wireguard`'}, MTU {mtu}; "
        f"rounds: {options.rounds}; transfers: {options.seconds} s, dev to user.",
        "Round trips are of links otherwise idle.",
        busy,
    ]
    publish(options, OUTSIDE, results, table(results), notes)


def tunnel_of(ours: str, lab: Lab, mtu: int) -> AbstractContextManager[Tunnel]:
    """Ours, up."""
    if ours == "node":
        return nodes(lab, OURS, mtu)
    return plain(lab, OURS, ["coderd", "wireguard"], Place(0), mtu)


def shape(core: Host, link: Link) -> None:
    """Makes the way between the hosts as fast as a link, or as fast as it can be."""
    for port in PORTS:
        core.run(["tc", "qdisc", "del", "dev", port, "root"], check=False)
        if link.megabits is not None:
            rate = ["rate", f"{link.megabits}mbit", "burst", str(link.burst), "latency", LONGEST_WAIT]
            core.run(["tc", "qdisc", "add", "dev", port, "root", "tbf", *rate])


def measure(results: Results, lab: Lab, link: Link, name: str, address: str, seconds: int) -> None:
    """Goodput and round trip of one way on one link."""
    speed = iperf(lab, address, ("-R",), seconds)
    trip = round_trip(lab, address)
    say(f"  {name}: {speed:.3f} Gbit/s, {trip:.2f} ms")
    results.add(goodput_case(link), "Gbit/s", name, speed)
    results.add(trip_case(link), "ms", name, trip)


def goodput_case(link: Link) -> str:
    """What JSON calls a link's goodput."""
    return f"outside-{_slug(link)}"


def trip_case(link: Link) -> str:
    """What JSON calls a link's round trip."""
    return f"outside-rtt-{_slug(link)}"


def _slug(link: Link) -> str:
    return "unshaped" if link.megabits is None else f"{link.megabits}mbit"


def table(results: Results) -> str:
    """One line for each link."""
    head = ["link", "outside, Gbit/s", "tunnel, Gbit/s", "tunnel / outside", "outside, ms", "added, ms"]
    return markdown(
        [head, *(_row(link, results[goodput_case(link)], results[trip_case(link)]) for link in LINKS)]
    )


def _row(link: Link, goodput: Result, trip: Result) -> list[str]:
    ratio = goodput.ratio(OUTSIDE)
    return [
        link.name,
        goodput.cell(OUTSIDE),
        goodput.cell(OURS),
        "–" if ratio is None else f"{ratio:.3f}",
        trip.cell(OUTSIDE),
        f"{trip.median(OURS) - trip.median(OUTSIDE):.2f}",
    ]
