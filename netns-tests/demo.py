"""``scripts/demo``: two machines behind NATs meet, live.

Each claim prints the value that was read; a false one ends it.

The commands shown are run as they stand on the user's machine. What is claimed of them is read from their
``--json``.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lab import Lab, LabError, Service, Site, Topology, until
from lab.topology import EASY

FAILED = 1
INTERRUPTED = 130

N_PINGS = 20
"""How many pings, two a second, wait for a direct path."""

DIRECT_TIMEOUT = 5.0
"""Seconds that a direct path still has after them, before it is claimed."""

SECONDS = 3
"""Length of each speed test."""

WAY = {"direct": "directly", "relay": "by the relay"}

PICTURE = """\
              server {server}
                     │
        ┌────────────┴────────────┐
    [ NAT ]                   [ NAT ]
        │                         │
      user  ═══ encrypted ═══    dev"""


class ClaimFailed(Exception):
    """What the demo was about to claim is not so."""


class Stage:
    """Where the demo speaks: headings, commands, claims; in colour on a terminal only."""

    def __init__(self) -> None:
        self.proved: list[str] = []
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def heading(self, text: str) -> None:
        """Open a scene."""
        self.say(f"\n{self._paint('1', text)}")

    def command(self, argv: Sequence[str]) -> None:
        """Show what is typed on the user's machine."""
        self.say(self._paint("36", f"  user$ {' '.join(argv)}"))

    def line(self, text: str) -> None:
        """Show a line of a program."""
        self.say(f"    {text}".rstrip())

    def claim(self, what: str, read: object, holds: bool) -> None:
        """Print a claim with the value that was read for it; ClaimFailed when it does not hold."""
        if not holds:
            self.say(f"  {self._paint('31', '✗')} {what}: {self._paint('1', str(read))}")
            raise ClaimFailed(f"{what} (read: {read})")
        self.say(f"  {self._paint('32', '✓')} {what}: {self._paint('1', str(read))}")
        self.proved.append(f"{what}: {read}")

    def say(self, text: str) -> None:
        """Print at once, also into a pipe."""
        print(text, flush=True)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


class Demo:
    """The story, scene by scene, over one laboratory."""

    def __init__(self, lab: Lab, stage: Stage) -> None:
        self._lab = lab
        self._stage = stage

    def tell(self) -> None:
        """All of it."""
        with self._lab.udp_held():
            self._joining()
            self._by_relay()
            with self._watched_ping():
                self._lab.allow_udp()
                self._stage.say("  - UDP between the sites is released -")
        self._directly()
        self._speedtest("direct")
        self._speedtest("relay")

    def _joining(self) -> None:
        self._stage.heading("Joining")
        self._lab.join()
        status = self._read("status")
        self._stage.claim("the server answers", status["server"]["url"], status["server"]["connected"])
        shown = self._shown_certificate()
        self._stage.claim(
            "by the certificate that it made itself, whose pin both machines were told",
            f"sha256:{shown[:16]}…",
            self._lab.server.join_url.endswith(f"#sha256:{shown}"),
        )
        me = status["self"]
        self._stage.claim(
            "this machine has joined", f"{me['name']} {me['address']}", status["state"] == "running"
        )
        dev = self._dev()
        self._stage.claim("the workspace is online", f"{dev['name']} {dev['address']}", dev["online"])
        self._show("status")

    def _shown_certificate(self) -> str:
        """The SHA-256 of what the server shows to anybody who connects."""
        address, _, port = self._lab.server.url.removeprefix("https://").rpartition(":")
        return self._lab.user.host.python(
            "import hashlib, ssl;"
            f"pem = ssl.get_server_certificate(({address!r}, {port}));"
            "print(hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest())"
        ).strip()

    def _by_relay(self) -> None:
        self._stage.heading("UDP between the two sites is held back: the server relays")
        pongs = self._pongs("-c", "2", "--interval", "0.2s")
        self._stage.claim("dev answers", f"{len(pongs)} pongs", len(pongs) > 0)
        paths = {f"{pong['path']} {pong['via']}" for pong in pongs}
        self._stage.claim("by the relay", ", ".join(sorted(paths)), paths == {"relay coder"})
        stopped = self._lab.internet.stopped_datagrams
        self._stage.claim("datagrams between the sites that nftables stopped", stopped, stopped > 0)

    @contextmanager
    def _watched_ping(self) -> Iterator[None]:
        """A ping that goes on until it is direct; the block is run after its first answers."""
        argv = ["coderctl", "ping", "dev", "--until-direct", "-c", str(N_PINGS), "--interval", "0.5s"]
        self._stage.command(argv)
        with self._lab.user.host.start(argv, name="the watched ping") as ping:
            shown = 0

            def show() -> int:
                nonlocal shown
                lines = ping.output.splitlines() if not ping.is_running else ping.output.split("\n")[:-1]
                for line in lines[shown:]:
                    self._stage.line(line)
                shown = len(lines)
                return shown

            until(lambda: show() >= 2 or not ping.is_running, "two answers to the ping")
            yield
            until(lambda: show() and not ping.is_running, "the ping to end", timeout=N_PINGS)
            show()

    def _directly(self) -> None:
        self._stage.heading("A direct path, from NAT to NAT")
        path = self._path()
        self._stage.claim(
            "the path to dev is direct", f"{path['kind']} {path['via']}", path["kind"] == "direct"
        )
        (pong,) = self._pongs("-c", "1")
        self._stage.claim(
            "a pong came directly", f"{pong['via']} in {pong['latency_ms']:.1f} ms", pong["path"] == "direct"
        )

    def _path(self) -> dict[str, Any]:
        """The path to dev: direct as soon as it is, else whatever it still is when time is up."""
        deadline = time.monotonic() + DIRECT_TIMEOUT
        while (path := self._dev()["path"])["kind"] != "direct" and time.monotonic() < deadline:
            time.sleep(0.1)
        return dict(path)

    def _speedtest(self, kind: str) -> None:
        self._stage.heading(f"Speed, {WAY[kind]}")
        flags = ["-t", f"{SECONDS}s", f"--{kind}"]
        self._show("speedtest", "dev", *flags)
        self._lab.internet.watch_server_link()
        result = self._read("speedtest", "dev", *flags)
        via_server = self._lab.internet.server_link_bytes / 1e6
        path, overall = result["path"], result["overall"]
        moved = overall["megabits"] / 8
        self._stage.claim(
            f"a speed test asked to go {WAY[kind]} counts its bytes there",
            f"{path['kind']} via {path['via']}",
            path["kind"] == kind,
        )
        self._stage.claim(
            f"throughput {WAY[kind]}, Mbit/s",
            f"{overall['throughput_mbits']:.0f}",
            overall["throughput_mbits"] > 0,
        )
        share = f"{via_server:.2f} MB, of {moved:.0f} MB moved"
        expected = via_server < moved / 10 if kind == "direct" else via_server > 2 * moved
        self._stage.claim(f"{WAY[kind]}, the server's link carried in and out", share, expected)

    # ---- commands on the user's machine

    def _show(self, *arguments: str) -> None:
        argv = ["coderctl", *arguments]
        self._stage.command(argv)
        for line in self._lab.user.run(argv, timeout=60).splitlines():
            self._stage.line(line)

    def _read(self, *arguments: str) -> dict[str, Any]:
        return self._lab.user.json(*arguments, timeout=60)

    def _pongs(self, *options: str) -> list[dict[str, Any]]:
        out = self._lab.user.host.run(["coderctl", "ping", "dev", *options, "--json"], check=False).stdout
        return [
            pong for pong in map(json.loads, out.splitlines()) if "seq" in pong and not pong.get("timeout")
        ]

    def _dev(self) -> dict[str, Any]:
        peer = self._lab.user.peer("dev")
        if peer is None:
            raise ClaimFailed("the user's machine knows of a workspace dev (read: no such peer)")
        return peer


def main(argv: Sequence[str] | None = None) -> int:
    """Tell the story; 0 when every claim held."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument(
        "--block-udp",
        action="store_true",
        help="let the NATs block UDP all along: the claim of a direct path must fail",
    )
    blocked = parser.parse_args(argv).block_udp
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    site = Site(EASY, passes_udp=not blocked)
    try:
        return perform(Topology("the demo's", user=site, dev=site, service=Service(is_pinned=True)))
    except KeyboardInterrupt:
        print("\nscripts/demo: interrupted; nothing is left behind", file=sys.stderr)
        return INTERRUPTED


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def perform(topology: Topology) -> int:
    """Build the internet, tell the story on it, and sum up."""
    stage = Stage()
    started = time.monotonic()
    try:
        with Lab(topology) as lab:
            stage.say(PICTURE.format(server=lab.server.url))
            if not topology.user.passes_udp:
                stage.say("\nThese NATs block UDP all along: the claim of a direct path must fail.")
            try:
                Demo(lab, stage).tell()
            except ClaimFailed as failure:
                print(f"\nscripts/demo: this claim failed: {failure}", file=sys.stderr)
                return FAILED
    except LabError as error:
        print(f"\nscripts/demo: {error}", file=sys.stderr)
        return FAILED
    stage.heading(f"Proved in {time.monotonic() - started:.0f} s, and nothing left behind")
    for claim in stage.proved:
        stage.say(f"  {claim}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
