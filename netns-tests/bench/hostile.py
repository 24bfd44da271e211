"""``scripts/bench hostile``.

How soon the server answers ``/healthz`` while one client of each kind does its worst.

::

    server's host: coderd server, the hostile client, the probe: all on its loopback
         |
    dev: a workspace with a hostile app, and terminals; its daemon's control socket

One kind after the other, and each within its limits: what is too much is cut off by the server, and comes
back at once.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import Lab
from lab.waiting import until

from bench.hostile_load import APP_PORT
from bench.laboratory import laboratory
from bench.report import add_form_options, load, publish, say
from bench.results import OURS, Results, markdown

HERE = {"PYTHONPATH": str(Path(__file__).parents[1])}
LOAD = [sys.executable, "-m", "bench.hostile_load"]
NOTHING = "nothing"
CONTROL = "control-socket"
AIM = 0.1
"""Seconds within which 99 of 100 answers should come."""
WARM_UP = 1.0
"""Seconds that a client has before it is measured."""
QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
WHAT = {
    NOTHING: "no load",
    "app-websocket-browser": "a browser's WebSocket to an app: empty pongs",
    "app-websocket-app": "an app's WebSocket: empty pongs",
    "app-chunks": "an app's answer in chunks of one byte",
    "upload": "an upload in chunks of one byte",
    "slow-reader": "an answer without end, taken slowly",
    "coordination": "a node's WebSocket: empty pongs",
    "relay": "a relay client: empty unknown frames, packets of a byte to an unknown key",
    "relay-websocket": "the same through a WebSocket",
    "relay-strangers": "handshakes with the relay, begun and left",
    "terminal": "a browser's terminal, resized without pause",
    CONTROL: "the control socket of a node; its `status` is asked",
}


class Place:
    """A server, a workspace, and what a client may use."""

    def __init__(self, lab: Lab) -> None:
        self._server, self._dev = lab.server, lab.dev
        self._host, _, self._port = lab.server.url.rpartition("//")[2].rpartition(":")
        self._nodes: list[str] = []
        """Tokens of workspaces: two clients with the same would replace each other."""

    def secrets(self, number: int) -> str:
        """What the client of this number may use, as JSON."""
        while len(self._nodes) <= number:
            self._nodes.append(self._server.create_workspace(f"hostile-{len(self._nodes)}"))
        return json.dumps({"token": self._server.admin_token, "node": self._nodes[number]})

    def measure(self, kind: str, n_clients: int, seconds: float) -> list[float]:
        """Seconds that each answer took while so many clients of a kind did their worst."""
        if kind == CONTROL:
            host, where, probe = self._dev.host, [self._dev.socket], "probe-control"
        else:
            host, where, probe = self._server.host, [self._host, self._port], "probe"
        name = "control" if kind == CONTROL else kind
        clients = [
            host.start([*LOAD, name, *where], name=name, input=self.secrets(number), env=HERE)
            for number in range(0 if kind == NOTHING else n_clients)
        ]
        try:
            host.run([*LOAD, probe, *where, str(WARM_UP)], env=HERE, timeout=120)
            done = host.run([*LOAD, probe, *where, str(seconds)], env=HERE, timeout=120 + seconds)
            if any(not client.is_running for client in clients):
                raise AssertionError(f"{kind}: a client ended: {clients[0].tail}")
        finally:
            for client in clients:
                client.kill()
        found: list[float] = json.loads(done.stdout)
        return found


@contextmanager
def place() -> Iterator[Place]:
    """A laboratory in which everything runs."""
    with laboratory() as lab:
        lab.server.start()
        token = lab.server.create_workspace("dev")
        lab.dev.join_as_workspace(lab.server.join_url, token, "--terminal", "--terminal-user", "root")
        until(lambda: lab.dev.address, "dev to be given its address")
        lab.dev.host.start([*LOAD, "app", str(APP_PORT)], name="the app", env=HERE).wait_for("listening")
        yield Place(lab)


def quantile(found: list[float], share: float) -> float:
    """The time within which so large a share of the answers came."""
    return sorted(found)[min(len(found) - 1, int(share * len(found)))]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own part of the command line."""
    add_form_options(parser)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each kind  [default: 5]")
    parser.add_argument("--clients", type=int, default=1, help="of each kind at once  [default: 1]")
    parser.add_argument("--kind", action="append", choices=list(WHAT), help="only these  [default: all]")


def run(options: argparse.Namespace) -> None:
    """Everything, and out with it."""
    notes = [
        f"Clients of each kind at once: {options.clients}; {options.seconds:g} seconds each, on the server's own loopback, a question every 10 ms "
        "on a connection that is kept; the client, the app and the probe share the machine's cores with the server.",
        f"Aim: 99 of 100 within {AIM * 1000:.0f} ms.",
        load(),
    ]
    results = Results()
    rows = [["who does their worst", *(f"{name}, ms" for name in QUANTILES), "answers"]]
    missed = []
    with place() as found:
        for kind in options.kind or WHAT:
            say(kind)
            answers = found.measure(kind, options.clients, options.seconds)
            figures = {name: quantile(answers, share) * 1e3 for name, share in QUANTILES.items()}
            for name, value in figures.items():
                results.add(f"{kind} {name}", "ms", OURS, value)
            rows.append([WHAT[kind], *(f"{value:.1f}" for value in figures.values()), str(len(answers))])
            if figures["p99"] > AIM * 1e3:
                missed.append(kind)
    notes.append(f"Missed by: {', '.join(missed)}." if missed else "All kinds reach it.")
    publish(options, "hostile", results, markdown(rows), notes)
