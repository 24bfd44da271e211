"""The TUN device and its router in real namespaces.

```
 namespace A                                                          namespace B
 TCP / UDP socket -- tun0 == read, split == socket pair == coalesce, write == tun0 -- TCP / UDP socket
  10.77.0.1, fd77::1    <------------------ and back ----------------->    10.77.0.2, fd77::2
```

Every namespace is anonymous and belongs to a child process: this file, run as a program under ``unshare``.
When the child ends, however it ends, the kernel takes namespace and interface away. Children print one JSON
value.
"""

import errno
import hashlib
import json
import os
import random
import re
import shlex
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
import trio

from coderd.model.errors import UserError
from coderd.packet import ones_sum
from coderd.tun import coalesce, split
from coderd.tun.io.device import Offloads, TunDevice
from coderd.tun.io.router import Router
from tests.shell.tun_node import with_own_tun

pytestmark = [pytest.mark.netns, pytest.mark.slow]

SECONDS = 60
UNITS = Path(__file__).parents[1] / "systemd"
MEGABYTES = 4
FAMILIES = {4: ("10.77.0.1", "10.77.0.2"), 6: ("fd77::1", "fd77::2")}
N_DATAGRAMS, DATAGRAM_SIZE = 20, 500
PORT = 7777
UDP_SEGMENT = 103
SO_SNDBUFFORCE = 32
IPV6_OFF = (
    "echo 1 | tee /proc/sys/net/ipv6/conf/all/disable_ipv6 > /proc/sys/net/ipv6/conf/default/disable_ipv6"
)


# What the tests expect


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("offloads", ["both", "none"])
def test_a_stream_arrives_intact_through_split_and_coalesce(version: int, offloads: str) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        server = child("server", str(left.fileno()), str(version), offloads, pass_fds=(left.fileno(),))
        client = child("client", str(right.fileno()), str(version), offloads, pass_fds=(right.fileno(),))
    served, sent = result_of(server), result_of(client)
    assert served["digest"] == sent["digest"]
    assert served["datagrams"] == [DATAGRAM_SIZE] * N_DATAGRAMS
    assert served["offloads"] == ([True, True] if offloads == "both" else [False, False])
    assert served["wrong_checksums"] == 0
    if offloads == "both":
        assert sent["segments"] > 2 * sent["reads"], "the kernel gave us super-packets"
        assert served["packets"] > 2 * served["writes"], "and took super-packets from us"
        assert served["uso_writes"] > 0
    else:
        assert sent["segments"] == sent["reads"], "the kernel cut them up itself"


def test_addresses_routes_and_mtu_are_what_ip_shows() -> None:
    first, second = result_of(child("settings"))
    assert first["addresses"] == ["10.77.0.1/24", "10.77.0.9/24", "fd77::1/128"]
    assert first["routes"] == ["10.78.0.0/16", "fd78::/64", "fd79::1"]
    assert (first["mtu"], first["is_up"]) == (1280, True)
    assert not first["is_tentative"]
    assert second["addresses"] == ["10.77.0.9/24", "fd77::2/128"]
    assert second["routes"] == ["default", "fd79::1"]
    assert (second["mtu"], second["is_up"]) == (1420, True)


def test_a_silent_interface_says_nothing_when_it_comes_up() -> None:
    """No router solicitation, no duplicate address detection, no multicast report of a link-local address."""
    assert result_of(child("silence")) == []


def test_ipv6_is_switched_on_for_our_interface_alone() -> None:
    assert result_of(child("without-ipv6", before=IPV6_OFF)) == {
        "ours": "0",
        "lo": "1",
        "addresses": ["fd77::1/128"],
    }


def test_ipv6_that_cannot_be_switched_on_is_explained() -> None:
    read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys"
    error = result_of(child("without-ipv6", before=f"{IPV6_OFF} && {read_only}"))
    assert error["code"] == "no_ipv6"
    assert "switched off on this machine" in error["message"]


def test_no_small_mtu_with_ipv6() -> None:
    assert result_of(child("small-mtu"))["code"] == "bad_mtu"


@pytest.mark.parametrize(
    ("name", "before", "code"),
    [
        ("lo", "", "interface_exists"),
        ("kept0", "ip tuntap add dev kept0 mode tun", "interface_exists"),
        ("kept0", "ip tuntap add dev kept0 mode tun vnet_hdr", "interface_exists"),
        ("new0", "mount -t tmpfs none /dev/net", "no_tun"),
        ("a/b", "", "bad_interface_name"),
        ("sixteen_letters_", "", "bad_interface_name"),
        ("%s", "", "bad_interface_name"),
        ("", "", "bad_interface_name"),
    ],
)
def test_what_prevents_opening_is_explained(name: str, before: str, code: str) -> None:
    assert result_of(child("open", name, before=before))["code"] == code


def test_a_second_daemon_learns_that_the_name_is_taken() -> None:
    assert result_of(child("open-twice"))["code"] == "interface_exists"


def test_without_the_capability_nothing_opens() -> None:
    assert result_of(child("open", "new0", by="setpriv --bounding-set=-net_admin"))["code"] == "not_permitted"


@pytest.mark.parametrize("unit", ["coderd.service", "coderd-server.service"])
@pytest.mark.parametrize(
    ("mode", "group", "after"),
    [("600", 0, "666"), ("660", 0, "666"), ("666", 0, "666"), ("660", 4, "660"), ("600", 4, "600")],
)
def test_units_open_the_device_to_all_unless_somebody_has_given_it_to_a_group(
    unit: str, mode: str, group: int, after: str
) -> None:
    (prepare,) = re.findall("^ExecStartPre=-\\+(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
    show = with_own_tun(["stat", "-c", "%a", "/dev/net/tun"], mode=mode, group=group, then=prepare)
    assert subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip() == after


def test_a_device_that_is_roots_alone_is_said_and_the_cure_that_is_said_cures() -> None:
    rights = "--inh-caps=+net_admin,+dac_read_search --ambient-caps=+net_admin,+dac_read_search"
    somebody = shlex.split(f"setpriv --reuid=65534 --regid=65534 --clear-groups {rights} --")
    opens = [*somebody, sys.executable, __file__, "open", "new0"]
    refused = result_of(start(with_own_tun(opens, mode="600")))
    assert refused["code"] == "not_permitted"
    (cure,) = re.findall("`(.*?)`", refused["hint"])
    assert result_of(start(with_own_tun(opens, mode="600", then=cure)))["name"] == "new0"


def test_a_pattern_becomes_a_name() -> None:
    assert result_of(child("open", "pat%d")) == {
        "name": "pat0",
        "is_blocking": False,
        "is_inheritable": False,
    }


def test_the_kernel_grants_the_offloads_that_we_ask_for() -> None:
    assert result_of(child("offloads")) == {
        "both": [True, True],
        "tso": [True, False],
        "none": [False, False],
    }


def test_a_deleted_interface_ends_reading_writing_and_routing() -> None:
    assert result_of(child("deleted")) == ["EBADFD", "EBADFD", "ENODEV"]


def test_what_the_kernel_refuses_is_an_error_of_that_write_only() -> None:
    assert result_of(child("refusals")) == {"down": "EIO", "nonsense": "EINVAL", "after": "written"}


# Children, from outside


def child(
    verb: str, *args: str, before: str = "", by: str = "", pass_fds: tuple[int, ...] = ()
) -> "subprocess.Popen[str]":
    """Starts this file in namespaces of its own; ``before`` is a shell command that prepares them."""
    script = f'{before or "true"} && exec {by} "$0" "$@"'
    return start(
        ["unshare", "--net", "--mount", "sh", "-c", script, sys.executable, __file__, verb, *args], pass_fds
    )


def start(argv: list[str], pass_fds: tuple[int, ...] = ()) -> "subprocess.Popen[str]":
    """Starts a program that prints one JSON value."""
    return subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def result_of(process: "subprocess.Popen[str]") -> Any:
    try:
        out, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    return json.loads(out)


# Children, from inside


class Bridge:
    """One end: what its TUN says goes to the other end as packets, what comes from there is coalesced."""

    def __init__(self, device: TunDevice, other: "trio.socket.SocketType") -> None:
        self.device = device
        self.other = other
        self.ended = trio.Event()
        self.counts = Counter(reads=0, segments=0, packets=0, writes=0, uso_writes=0, wrong_checksums=0)

    async def carry_out(self) -> None:
        header, buffer = bytearray(10), bytearray(65536)
        view = memoryview(buffer)
        with suppress(BrokenPipeError, ConnectionResetError):
            while True:
                await trio.lowlevel.wait_readable(self.device.fileno())
                with suppress(BlockingIOError):
                    size = self.device.read_into(header, buffer)
                    await self.send(split(header, view[:size]))

    async def send(self, segments: list[bytes]) -> None:
        self.counts["reads"] += 1
        self.counts["segments"] += len(segments)
        self.counts["wrong_checksums"] += sum(map(has_wrong_checksum, segments))
        await self.other.send(b"".join(struct.pack("=H", len(segment)) + segment for segment in segments))

    async def carry_in(self) -> None:
        with suppress(ConnectionResetError):
            while message := await self.other.recv(1 << 20):
                self.write(list(messages_in(message)))
        self.ended.set()

    def write(self, packets: list[bytes]) -> None:
        self.counts["packets"] += len(packets)
        for item in coalesce(packets, uso=True):
            self.device.write(item)
            self.counts["writes"] += 1
            self.counts["uso_writes"] += item[0][1] == 5


def messages_in(message: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(message):
        (size,) = struct.unpack_from("=H", message, at)
        yield message[at + 2 : at + 2 + size]
        at += 2 + size


def has_wrong_checksum(packet: bytes) -> bool:
    """Of TCP and UDP: pseudo-header and all must sum to all ones."""
    is_v4 = packet[0] >> 4 == 4
    protocol = packet[9] if is_v4 else packet[6]
    if protocol not in (6, 17):
        return False
    at = 20 if is_v4 else 40
    addresses = packet[12:20] if is_v4 else packet[8:40]
    return (ones_sum(addresses) + protocol + len(packet) - at + ones_sum(packet[at:])) % 65535 != 0


async def endpoint(role: str, fd: str, version: str, offloads: str) -> object:
    ours, theirs = FAMILIES[int(version)] if role == "server" else FAMILIES[int(version)][::-1]
    wants = offloads == "both"
    other = trio.socket.from_stdlib_socket(socket.socket(fileno=int(fd)))
    other.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 22)
    with other, TunDevice.open("tun0", offloads=Offloads(wants, wants)) as device:
        router = Router("tun0")
        await router.configure([ip_interface(ours)], 1280)
        await router.set_routes([ip_network(theirs)])
        bridge = Bridge(device, other)
        talk = await (Server if role == "server" else Client).open(ours, theirs)
        await other.send(b"ready")
        assert await other.recv(16) == b"ready"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bridge.carry_out)
            nursery.start_soon(bridge.carry_in)
            result = await talk()
            if role == "server":
                await bridge.ended.wait()
            nursery.cancel_scope.cancel()
    return {**result, **bridge.counts, "offloads": list(device.offloads)}


class Server:
    """Receives the datagrams, then the stream, and answers with its digest."""

    def __init__(self, datagrams: "trio.socket.SocketType", listener: trio.SocketListener) -> None:
        self.datagrams = datagrams
        self.listener = listener

    @classmethod
    async def open(cls, ours: str, theirs: str) -> "Server":
        datagrams = trio.socket.socket(family_of(ours), socket.SOCK_DGRAM)
        await datagrams.bind((ours, PORT))
        (listener,) = await trio.open_tcp_listeners(PORT, host=ours)
        return cls(datagrams, listener)

    async def __call__(self) -> dict[str, object]:
        with self.datagrams:
            sizes = [len(await self.datagrams.recv(65536)) for _ in range(N_DATAGRAMS)]
        digest = hashlib.sha256()
        async with self.listener, await self.listener.accept() as stream:
            async for data in stream:
                digest.update(data)
            await stream.send_all(digest.hexdigest().encode())
        return {"datagrams": sizes, "digest": digest.hexdigest()}


class Client:
    """Sends the datagrams in one segmented call, then the stream."""

    def __init__(self, theirs: str) -> None:
        self.theirs = theirs

    @classmethod
    async def open(cls, ours: str, theirs: str) -> "Client":
        return cls(theirs)

    async def __call__(self) -> dict[str, object]:
        with socket.socket(family_of(self.theirs), socket.SOCK_DGRAM) as datagrams:
            segment = (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", DATAGRAM_SIZE))
            datagrams.sendmsg([bytes(N_DATAGRAMS * DATAGRAM_SIZE)], [segment], 0, (self.theirs, PORT))
        data = random.Random(1).randbytes(MEGABYTES << 20)
        stream = await trio.open_tcp_stream(self.theirs, PORT)
        async with stream:
            await stream.send_all(data)
            await stream.send_eof()
            answer = b"".join([part async for part in stream])
        assert answer.decode() == hashlib.sha256(data).hexdigest()
        return {"digest": answer.decode()}


def family_of(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


async def settings() -> object:
    with TunDevice.open("tun0"):
        router = Router("tun0")
        await router.configure(map(ip_interface, ["10.77.0.1/24", "10.77.0.9/24", "fd77::1/128"]), 1280)
        await router.set_routes(map(ip_network, ["10.78.0.0/16", "fd78::/64", "fd79::1/128"]))
        first = seen()
        # The primary address goes, and with it, for a moment, the kernel's others of its network.
        await router.configure(map(ip_interface, ["10.77.0.9/24", "fd77::2/128"]), 1420)
        await router.set_routes(map(ip_network, ["0.0.0.0/0", "fd79::1/128"]))
        return first, seen()


def seen() -> dict[str, object]:
    """What ``ip`` says about tun0."""
    (link,) = ip("addr", "show", "dev", "tun0")
    addresses = [info for info in link["addr_info"] if info]
    routes = [*ip("-4", "route", "show", "dev", "tun0"), *ip("-6", "route", "show", "dev", "tun0")]
    return {
        "addresses": sorted(f"{info['local']}/{info['prefixlen']}" for info in addresses),
        "is_tentative": any(info.get("tentative") for info in addresses),
        "routes": sorted(route["dst"] for route in routes if route["protocol"] == "static"),
        "mtu": link["mtu"],
        "is_up": "UP" in link["flags"],
    }


def ip(*args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(subprocess.check_output(["ip", "-json", *args]) or "[]")
    return found


async def silence() -> object:
    """What the interface says by itself in two seconds, longer than the kernel waits with a solicitation."""
    with TunDevice.open("tun0") as device:
        await Router("tun0").configure([ip_interface("fd77::1/128")], 1280)
        header, buffer = bytearray(10), bytearray(65536)
        with trio.move_on_after(2):
            await trio.lowlevel.wait_readable(device.fileno())
            return [buffer[: device.read_into(header, buffer)].hex()]
    return []


async def without_ipv6() -> object:
    with TunDevice.open("tun0"):
        switches = Path("/proc/sys/net/ipv6/conf")
        await Router("tun0").configure([ip_interface("fd77::1/128")], 1280)
        ours, lo = ((switches / name / "disable_ipv6").read_text().strip() for name in ("tun0", "lo"))
        return {"ours": ours, "lo": lo, "addresses": seen()["addresses"]}


async def small_mtu() -> object:
    with TunDevice.open("tun0"):
        await Router("tun0").configure([ip_interface("fd77::1/128")], 1279)


async def opened(name: str) -> object:
    with TunDevice.open(name) as device:
        fd = device.fileno()
        return {
            "name": device.name,
            "is_blocking": os.get_blocking(fd),
            "is_inheritable": os.get_inheritable(fd),
        }


async def opened_twice() -> object:
    with TunDevice.open("tun0"):
        return await opened("tun0")


async def offloads() -> object:
    """What TunDevice was granted, for each thing that can be wished for."""
    wishes = {"both": Offloads(True, True), "tso": Offloads(True, False), "none": Offloads(False, False)}
    granted = {}
    for name, wish in wishes.items():
        with TunDevice.open("tun0", offloads=wish) as device:
            granted[name] = list(device.offloads)
    return granted


async def deleted() -> object:
    with TunDevice.open("tun0") as device:
        router = Router("tun0")
        await router.configure([ip_interface("10.77.0.1/24")], 1280)
        delete_interface()
        return [
            error_of(device.read_into, bytearray(10), bytearray(65536)),
            error_of(device.write, [bytes(10), b"\x45" + bytes(19)]),
            await error_of_async(router.set_routes, []),
        ]


async def refusals() -> object:
    with TunDevice.open("tun0") as device:
        packet = bytes.fromhex("4500001c000040004001 26c3 0a4d0002 0a4d0001 0800f7ff00000000")
        down = error_of(device.write, [bytes(10), packet])
        await Router("tun0").configure([ip_interface("10.77.0.1/24")], 1280)
        nonsense = error_of(device.write, [bytes(10), b"\xff" * 40])
        return {"down": down, "nonsense": nonsense, "after": error_of(device.write, [bytes(10), packet])}


def delete_interface() -> None:
    subprocess.check_call(["ip", "link", "delete", "tun0"])


def error_of(function: Callable[..., object], *args: object) -> str:
    try:
        function(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"


async def error_of_async(function: Callable[..., Awaitable[object]], *args: object) -> str:
    try:
        await function(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


VERBS: dict[str, Callable[..., Awaitable[object]]] = {
    "server": partial(endpoint, "server"),
    "client": partial(endpoint, "client"),
    "settings": settings,
    "silence": silence,
    "without-ipv6": without_ipv6,
    "small-mtu": small_mtu,
    "open": opened,
    "open-twice": opened_twice,
    "offloads": offloads,
    "deleted": deleted,
    "refusals": refusals,
}


async def main(verb: str, *args: str) -> object:
    with trio.fail_after(SECONDS):
        try:
            return await VERBS[verb](*args)
        except UserError as error:
            return {"code": error.code, "message": error.message, "hint": error.hint}


if __name__ == "__main__":
    print(json.dumps(trio.run(main, *sys.argv[1:])))
