"""``scripts/bench web``.

One web service of a workspace, by the server's web apps, by ``port-forward``, and without any of us.

::

    user ── core ── dev, where the service listens
             │
           server       ours: user -> server (HTTP) -> tunnel -> dev;  port-forward: user -> tunnel -> dev

All have public addresses, so both tunnels are direct, and HTTP is not encrypted: what is measured is the way,
not TLS.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import Host, Lab
from lab.waiting import until

from bench.laboratory import laboratory
from bench.report import add_form_options, load, publish, say
from bench.results import OURS, Results, comparison
from bench.web_load import BODY, CONNECTIONS, N_ECHOES

PORT = 8080
FORWARDED = 18080
PORT_FORWARD = "port-forward"
PLAIN = "plain TCP"
HERE = {"PYTHONPATH": str(Path(__file__).parents[1])}
UNITS = {
    "download": ("MB/s", 1e-6),
    "upload": ("MB/s", 1e-6),
    "pages": ("requests/s", 1.0),
    "latency": ("ms", 1e3),
    "latency-post": ("ms", 1e3),
}


class Ways:
    """The same service three times.

    Args:
        lab: user and workspace joined, the service running.
        outer: the workspace's own address.
    """

    def __init__(self, lab: Lab, outer: str) -> None:
        host, _, port = lab.server.url.rpartition("//")[2].rpartition(":")
        bearer = f"Bearer {lab.server.admin_token}"
        self._host = lab.user.host
        self._ways = {
            OURS: (host, port, f"/@admin/dev/apps/{PORT}", bearer),
            PORT_FORWARD: ("127.0.0.1", str(FORWARDED), "/", ""),
            PLAIN: (outer, str(PORT), "/", ""),
        }

    @property
    def names(self) -> list[str]:
        """Ours first."""
        return list(self._ways)

    def measure(self, name: str, seconds: float) -> dict[str, float]:
        """Every figure of one way."""
        *where, authorization = self._ways[name]
        argv = [sys.executable, "-m", "bench.web_load", *where, str(seconds)]
        done = self._host.run(argv, input=f"{authorization}\n", env=HERE, timeout=120 + seconds)
        found: dict[str, float] = json.loads(done.stdout)
        return found


@contextmanager
def ways() -> Iterator[Ways]:
    """A laboratory in which the service is reached each way, the tunnels direct."""
    with laboratory() as lab:
        lab.join()
        service = [sys.executable, "-m", "bench.web_service", str(PORT)]
        lab.dev.host.start(service, name="the service", env=HERE).wait_for("listening")
        forward = ["coderctl", "port-forward", "dev", f"{FORWARDED}:{PORT}"]
        lab.user.host.start(forward, name="port-forward")
        until(lambda: lab.user.host.answers_tcp("127.0.0.1", FORWARDED), "port-forward to listen")
        found = Ways(lab, outer_address(lab.dev.host))
        lab.user.wait_for_path("dev", "direct")
        found.measure(OURS, 0.2)
        lab.dev.wait_for_path("server", "direct")
        yield found


def outer_address(host: Host) -> str:
    """The address of a host's link."""
    links = json.loads(host.run(["ip", "-j", "-4", "address", "show", "dev", "eth0"]).stdout)
    return str(links[0]["addr_info"][0]["local"])


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own part of the command line."""
    add_form_options(parser)
    parser.add_argument("--rounds", type=int, default=1, help="rounds of each way  [default: 1]")
    parser.add_argument("--seconds", type=float, default=2.0, help="of small pages  [default: 2]")


def run(options: argparse.Namespace) -> None:
    """Everything, and out with it."""
    notes = [
        f"download, upload: one body of {BODY // 1_000_000} MB. pages: of 200 bytes, by {CONNECTIONS} connections that are kept, "
        f"as a browser has. latency: median of {N_ECHOES} such pages, one after another; latency-post: of forms of 100 bytes, "
        "which ours never sends by a connection that may just be closing.",
        "ours: by the server's web apps; port-forward: coderctl's, on the user's machine; plain TCP: the service itself, no tunnel.",
        load(),
    ]
    results = Results()
    with ways() as found:
        for number in range(options.rounds):
            names = found.names if number % 2 == 0 else found.names[::-1]
            figures = {}
            for name in names:
                say(f"round {number + 1}, {name}")
                figures[name] = found.measure(name, options.seconds)
            for name in found.names:
                for case, (unit, scale) in UNITS.items():
                    results.add(case, unit, name, figures[name][case] * scale)
    publish(options, "web", results, comparison(list(results)), notes)
