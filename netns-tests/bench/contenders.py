"""Tunnels between a laboratory's two hosts, side by side.

Each with interfaces, ports and inner addresses of its own.

::

    user 198.51.100.2 ── core ── 203.0.113.2 dev        veth, no NAT
      bench0  ══════════════════════ bench0             coderd wireguard
      bench1  ══════════════════════ bench1             wireguard-go
      coder-user ═════════════════ coder-dev            or, in place of the first, the daemons as people run them

Idle ones cost nothing, so all stay up, and a case can go from one to the next within seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lab import Host, Lab, LabError, Process, until
from lab.topology import Family

OUTER = {"user": "198.51.100.2", "dev": "203.0.113.2"}
PORT = 51820
WORKSPACE = "dev"


@dataclass(frozen=True)
class Tunnel:
    """A contender at work."""

    name: str
    addresses: Mapping[Family, str]
    """Dev's addresses inside."""
    interfaces: tuple[str, str]
    """The user's and dev's."""
    daemons: tuple[Process, Process]
    """The user's and dev's."""


@dataclass(frozen=True)
class Place:
    """What a plain WireGuard has to itself beside others of its kind."""

    number: int

    @property
    def interface(self) -> str:
        """Its interface, on both hosts."""
        return f"bench{self.number}"

    @property
    def port(self) -> int:
        """Its UDP port, on both hosts."""
        return PORT + self.number

    def inner(self, host: str) -> dict[Family, str]:
        """A host's addresses inside."""
        at = 1 if host == "user" else 2
        return {4: f"10.99.{self.number}.{at}", 6: f"fd00:be7c:{self.number}::{at}"}


@contextmanager
def plain(lab: Lab, name: str, command: Sequence[str], place: Place, mtu: int) -> Iterator[Tunnel]:
    """Two plain WireGuards, set up by hand.

    Args:
        lab: where.
        name: what tables call it.
        command: makes an interface whose name is added, and stays in the foreground for
            WG_PROCESS_FOREGROUND=1.
        place: its own.
        mtu: of the tunnel.
    """
    hosts = {"user": lab.user.host, "dev": lab.dev.host}
    keys = {side: host.run(["wg", "genkey"]).stdout.strip() for side, host in hosts.items()}
    public = {side: hosts[side].run(["wg", "pubkey"], input=key).stdout.strip() for side, key in keys.items()}
    daemons: list[Process] = []
    try:
        for side, host in hosts.items():
            daemons.append(_start(host, name, command, place))
            other = "dev" if side == "user" else "user"
            host.run(
                ["wg", "setconf", place.interface, "/dev/stdin"],
                input=f"[Interface]\nPrivateKey={keys[side]}\nListenPort={place.port}\n"
                f"[Peer]\nPublicKey={public[other]}\nEndpoint={OUTER[other]}:{place.port}\n"
                f"AllowedIPs={','.join(place.inner(other).values())}\n",
            )
            _bring_up(host, place, place.inner(side), mtu)
        lab.user.run(["ping", "-c", "1", "-W", "5", place.inner("dev")[4]])
        yield Tunnel(name, place.inner("dev"), (place.interface,) * 2, (daemons[0], daemons[1]))
    finally:
        for daemon in daemons:
            daemon.stop()


def _start(host: Host, name: str, command: Sequence[str], place: Place) -> Process:
    daemon = host.start([*command, place.interface], env={"WG_PROCESS_FOREGROUND": "1"}, name=name)
    socket = host.path(f"/run/wireguard/{place.interface}.sock")
    until(lambda: socket.exists() or not daemon.is_running, f"{name} to answer", timeout=20)
    if not daemon.is_running:
        raise LabError(f"{name} ended {daemon.code} instead of answering wg")
    return daemon


def _bring_up(host: Host, place: Place, inner: Mapping[Family, str], mtu: int) -> None:
    host.ip(
        f"link set {place.interface} addrgenmode none",
        f"link set {place.interface} mtu {mtu} up",
        f"address add {inner[4]}/24 dev {place.interface}",
        f"address add {inner[6]}/64 dev {place.interface} nodad",
    )


@contextmanager
def nodes(lab: Lab, name: str, mtu: int) -> Iterator[Tunnel]:
    """The product as people run it: a server, a workspace and a user, joined, on a direct path.

    The tunnel carries IPv6 alone.
    """
    lab.server.start()
    token = lab.server.create_workspace(WORKSPACE)
    user, dev = lab.user, lab.dev
    try:
        dev.join_as_workspace(lab.server.url, token, "--mtu", str(mtu))
        user.join_as_user(lab.server.url, lab.server.admin_token, "--mtu", str(mtu))
        user.wait_for_peer(WORKSPACE)
        user.wait_for_path(WORKSPACE, "direct")
        peer = user.peer(WORKSPACE)
        assert peer is not None
        assert user.daemon is not None
        assert dev.daemon is not None
        yield Tunnel(
            name, {6: str(peer["address"])}, (user.interface, dev.interface), (user.daemon, dev.daemon)
        )
    finally:
        for node in (user, dev):
            if node.daemon is not None:
                node.daemon.stop()
