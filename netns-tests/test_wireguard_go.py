"""Our WireGuard against Debian's wireguard-go on one wire, both ways: ping and iperf3 in both families.

::

    user 198.51.100.2 ─────── core ─────── 203.0.113.2 dev
      ours0 (our engine, plain endpoints)      wg0 (wireguard-go)
      10.99.0.1, fd00:99::1                    10.99.0.2, fd00:99::2
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Host, Lab, Process, until

OURS = Path(__file__).parent / "plain_wireguard.py"
PORT = 51820

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow]


@pytest.fixture(scope="module", params=["without a pre-shared key", "with a pre-shared key"])
def hosts(request: pytest.FixtureRequest) -> Iterator[tuple[Host, Host]]:
    with Lab("no-nat") as lab:
        user, dev = lab.user.host, lab.dev.host
        private = {host: host.run(["wg", "genkey"]).stdout.strip() for host in (user, dev)}
        public = {host: host.run(["wg", "pubkey"], input=key).stdout.strip() for host, key in private.items()}
        psk = user.run(["wg", "genpsk"]).stdout.strip() if request.param.startswith("with a") else ""
        start_theirs(dev, private[dev], public[user], psk)
        start_ours(user, private[user], public[dev], psk)
        yield user, dev


def start_theirs(host: Host, private: str, peer: str, psk: str) -> Process:
    daemon = host.start(["wireguard-go", "wg0"], env={"WG_PROCESS_FOREGROUND": "1"})
    until(host.path("/run/wireguard/wg0.sock").exists, "wireguard-go to answer", timeout=10)
    preshared = f"PresharedKey={psk}\n" if psk else ""
    host.run(
        ["wg", "setconf", "wg0", "/dev/stdin"],
        input=f"[Interface]\nPrivateKey={private}\nListenPort={PORT}\n[Peer]\nPublicKey={peer}\n{preshared}"
        f"Endpoint=198.51.100.2:{PORT}\nAllowedIPs=10.99.0.1/32,fd00:99::1/128\n",
    )
    host.ip(
        "link set wg0 addrgenmode none",
        "link set wg0 mtu 1420",
        "link set wg0 up",
        "address add 10.99.0.2/24 dev wg0",
        "address add fd00:99::2/64 dev wg0 nodad",
    )
    return daemon


def start_ours(host: Host, private: str, peer: str, psk: str) -> Process:
    config = {
        "interface": "ours0",
        "mtu": 1420,
        "listen_port": PORT,
        "private_key": private,
        "addresses": ["10.99.0.1/24", "fd00:99::1/64"],
        "peer": peer,
        "preshared_key": psk,
        "endpoint": f"203.0.113.2:{PORT}",
        "allowed_ips": ["10.99.0.2/32", "fd00:99::2/128"],
    }
    daemon = host.start([sys.executable, str(OURS)], input=json.dumps(config), name="our plain WireGuard")
    daemon.wait_for("ready")
    return daemon


@pytest.mark.parametrize("family", [4, 6])
def test_pings_pass_both_ways(hosts: tuple[Host, Host], family: int) -> None:
    user, dev = hosts
    ours, theirs = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd00:99::1", "fd00:99::2")}[family]
    user.run(["ping", "-c", "3", "-i", "0.1", "-W", "5", theirs])
    dev.run(["ping", "-c", "3", "-i", "0.1", "-W", "5", ours])


@pytest.mark.parametrize("direction", ["to them", "from them"])
@pytest.mark.parametrize("address", ["10.99.0.2", "fd00:99::2"])
def test_a_bulk_transfer_passes_both_ways(hosts: tuple[Host, Host], address: str, direction: str) -> None:
    user, dev = hosts
    with dev.start(["iperf3", "--server", "--one-off", "--forceflush"]) as server:
        server.wait_for("Server listening")
        argv = ["iperf3", "--client", address, "--bytes", "20M", "--json"]
        report = json.loads(user.run(argv + ["-R"] * (direction == "from them"), timeout=60).stdout)
        assert report["end"]["sum_received"]["bytes"] >= 20_000_000
