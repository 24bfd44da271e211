"""``coderd wireguard`` against Debian's wireguard-go on one wire.

Outside IPv4 or IPv6, inside both, with a pre-shared key or not.

::

    user ─────────────── core ─────────────── dev
      ours0 (coderd wireguard)                  wg0 (wireguard-go)
      10.99.0.1, fd00:99::1                     10.99.0.2, fd00:99::2
"""

import json
from collections.abc import Iterator

import pytest
from lab import until
from tunnels import End, at, connected, two_ends

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow]


@pytest.fixture(
    scope="module", params=[(4, False), (4, True), (6, False)], ids=["IPv4", "IPv4 with a PSK", "IPv6"]
)
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[End, End]]:
    family, psk = request.param
    with connected(family, psk=psk) as pair:
        yield pair


@pytest.mark.parametrize("family", [4, 6])
def test_pings_pass_both_ways(ends: tuple[End, End], family: int) -> None:
    ours, theirs = ends
    ours.ping(theirs, family)
    theirs.ping(ours, family)


@pytest.mark.parametrize("direction", ["to them", "from them"])
@pytest.mark.parametrize("family", [4, 6])
def test_a_bulk_transfer_passes_both_ways(ends: tuple[End, End], family: int, direction: str) -> None:
    ours, theirs = ends
    with theirs.host.start(["iperf3", "--server", "--one-off", "--forceflush"]) as server:
        server.wait_for("Server listening")
        argv = ["iperf3", "--client", theirs.addresses[family], "--bytes", "20M", "--json"]
        report = json.loads(ours.host.run(argv + ["-R"] * (direction == "from them"), timeout=60).stdout)
        assert report["end"]["sum_sent"]["bytes"] >= 20_000_000
        assert (
            report["end"]["sum_received"]["bytes"] >= 10_000_000
        )  # iperf3 does not wait for what is under way


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("psk", [False, True], ids=["", "with a PSK"])
@pytest.mark.parametrize("begins", ["ours", "theirs"])
def test_either_end_begins_when_only_it_knows_where_the_other_is(family: int, psk: bool, begins: str) -> None:
    with two_ends(family) as (ours, theirs):
        preshared = ours.wg("genpsk").strip() if psk else ""
        first, second = (ours, theirs) if begins == "ours" else (theirs, ours)
        first.configure(second, psk=preshared, endpoint=at(second.outer))
        second.configure(first, psk=preshared)
        for end in (second, first):
            end.up()
        first.ping(second, 10 - family)
        second.ping(first, family)
        assert second.show("endpoints") == at(first.outer)
        assert all(int(end.show("latest-handshakes")) > 0 for end in (first, second))


def test_a_wrong_preshared_key_lets_nothing_through() -> None:
    with two_ends() as (ours, theirs):
        ours.configure(theirs, psk=ours.wg("genpsk").strip(), endpoint=at(theirs.outer))
        theirs.configure(ours, psk=ours.wg("genpsk").strip(), endpoint=at(ours.outer))
        for end in (ours, theirs):
            end.up()
        done = ours.host.run(["ping", "-c", "1", "-W", "2", theirs.addresses[4]], check=False)
        assert done.returncode == 1
        assert ours.show("latest-handshakes") == theirs.show("latest-handshakes") == "0"


def test_both_count_the_same_bytes() -> None:
    with connected() as (ours, theirs):
        ours.ping(theirs)
        until(
            lambda: ours.show("transfer").split() == theirs.show("transfer").split()[::-1],
            "what one has sent to be what the other has received",
        )
