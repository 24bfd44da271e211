"""Two plain WireGuards on two hosts, each set up by hand: ours, and whatever else there is."""

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import Host, Lab, Process, Site, Topology, until

PORT = 51820
OUTER = {
    4: ("198.51.100.2", "203.0.113.2"),
    6: ("2001:db8:a::2", "2001:db8:b::2"),
}
INNER = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd00:99::1", "fd00:99::2")}
NO_ANSWERS = {4: Topology("public IPv4", Site(), Site(), 4), 6: Topology("public IPv6", Site(), Site(), 6)}


@dataclass
class End:
    """One end of a tunnel: a host with one WireGuard interface."""

    host: Host
    interface: str
    place: int
    """0 or 1: which of the two addresses are its own."""
    private: str = ""
    public: str = ""
    daemon: Process | None = None
    outer: str = ""
    addresses: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.private = self.host.run(["wg", "genkey"]).stdout.strip()
        self.public = self.host.run(["wg", "pubkey"], input=self.private).stdout.strip()
        self.addresses = {family: INNER[family][self.place] for family in (4, 6)}

    def wg(self, *arguments: str, input: str | None = None) -> str:
        """``wg`` on this host."""
        return self.host.run(["wg", *arguments], input=input).stdout

    def show(self, what: str) -> str:
        """One column of ``wg show``, for its one peer."""
        return self.wg("show", self.interface, what).strip().partition("\t")[2]

    def configure(self, peer: "End", *, psk: str = "", endpoint: str = "", extra: str = "") -> None:
        """Sets everything with ``wg setconf``: the peer may use all addresses of its own."""
        lines = [
            f"[Interface]\nPrivateKey={self.private}\nListenPort={PORT}",
            f"[Peer]\nPublicKey={peer.public}",
            f"AllowedIPs={','.join(peer.addresses.values())}",
        ]
        lines += [f"PresharedKey={psk}"] * bool(psk) + [f"Endpoint={endpoint}"] * bool(endpoint)
        self.wg("setconf", self.interface, "/dev/stdin", input="\n".join([*lines, extra, ""]))

    def up(self, mtu: int = 1420) -> None:
        """What wg-quick does after that."""
        self.host.ip(
            f"link set {self.interface} addrgenmode none",
            f"link set {self.interface} mtu {mtu} up",
            f"address add {self.addresses[4]}/24 dev {self.interface}",
            f"address add {self.addresses[6]}/64 dev {self.interface} nodad",
        )

    def ping(self, peer: "End", family: int = 4, *options: str) -> str:
        """Three echoes, or what the options say."""
        options = options or ("-c", "3", "-i", "0.1", "-W", "5")
        return self.host.run(["ping", *options, peer.addresses[family]], timeout=60).stdout


def start_ours(host: Host, interface: str) -> None:
    """As scripts start it: the command returns when ``wg`` may go on."""
    host.run(["coderd", "wireguard", interface])


def start_theirs(host: Host, interface: str) -> Process:
    """Debian's wireguard-go."""
    daemon = host.start(["wireguard-go", interface], env={"WG_PROCESS_FOREGROUND": "1"})
    until(host.path(f"/run/wireguard/{interface}.sock").exists, "wireguard-go to answer", timeout=10)
    return daemon


def outer_addresses(host: Host, family: int) -> list[str]:
    """The addresses of a host's eth0, without link-local ones."""
    listing = host.run(["ip", "-o", f"-{family}", "address", "show", "dev", "eth0", "scope", "global"]).stdout
    return [line.split()[3].partition("/")[0] for line in listing.splitlines()]


def at(address: str, port: int = PORT) -> str:
    """An endpoint's text."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@contextmanager
def two_ends(family: int = 4) -> Iterator[tuple[End, End]]:
    """Ours on the user's host and wireguard-go on dev's, both running, neither configured."""
    with Lab(NO_ANSWERS[family]) as lab:
        ours, theirs = End(lab.user.host, "ours0", 0), End(lab.dev.host, "wg0", 1)
        for end in (ours, theirs):
            (end.outer,) = outer_addresses(end.host, family)
        start_ours(ours.host, ours.interface)
        theirs.daemon = start_theirs(theirs.host, theirs.interface)
        yield ours, theirs


@contextmanager
def connected(family: int = 4, *, psk: bool = False) -> Iterator[tuple[End, End]]:
    """The same, configured and up."""
    with two_ends(family) as (ours, theirs):
        connect(ours, theirs, psk=psk)
        yield ours, theirs


def connect(ours: End, theirs: End, *, psk: bool = False) -> None:
    """Each knows where the other is."""
    preshared = ours.wg("genpsk").strip() if psk else ""
    ours.configure(theirs, psk=preshared, endpoint=at(theirs.outer))
    theirs.configure(ours, psk=preshared, endpoint=at(ours.outer))
    for end in (ours, theirs):
        end.up()


def uapi_connection(host: Host, interface: str) -> socket.socket:
    """A connection to a daemon's socket, from the test's own process."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(5.0)
    sock.connect(str(host.path(f"/run/wireguard/{interface}.sock")))
    return sock


def daemon_behind(host: Host, interface: str) -> tuple[int, Sequence[str]]:
    """The pid, as we see it, of who listens on an interface's socket, and its command line."""
    with uapi_connection(host, interface) as sock:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid = struct.unpack("=iII", credentials)[0]
    return pid, Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def tun_flags(host: Host, interface: str) -> int:
    """The flags with which a TUN interface was made; no other kind of interface has any."""
    return int(host.path(f"/sys/class/net/{interface}/tun_flags").read_text(), 16)
