"""The network namespace beside the server: made by anybody, gone with the server, and refused with a sentence."""

import os
import re
import signal
import socket
import subprocess
import sys
from ipaddress import IPv6Address

import pytest
import trio
import trio.testing

from coderd.model.errors import UserError
from coderd.server.node.enclave import INTERFACE, Enclave
from coderd.tun.io.device import TunDevice
from tests.shell.tun_node import with_own_tun

OWN, PEER = IPv6Address("fd60:627a:a42b::1"), IPv6Address("fd60:627a:a42b::2")

TCP = 6

OPEN = """
import sys, trio
from ipaddress import IPv6Address
from coderd.model.errors import UserError
from coderd.server.node.enclave import Enclave
async def main():
    try:
        (await Enclave.open(IPv6Address("fd60:627a:a42b::1"), 1280)).close()
        print("opened")
    except UserError as error:
        print(error.code, error.message, "|", error.hint)
trio.run(main)
"""
IFA_F_NODAD = 0x02
NO_NAMESPACES = """
echo 0 > /proc/sys/user/max_user_namespaces; echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"
"""


async def read(tun: TunDevice) -> bytes:
    packet = bytearray(65536)
    await trio.lowlevel.wait_readable(tun.fileno())
    return bytes(packet[: tun.read_into(bytearray(10), packet)])


async def test_sockets_of_the_namespace_speak_through_its_tun() -> None:
    enclave = await Enclave.open(OWN, 1280)
    try:
        assert enclave.tun.name == INTERFACE
        for _ in range(20):
            (await enclave.make_socket()).close()
        sock = await enclave.make_socket()
        with sock, trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sock.connect, (str(PEER), 4))
                while (packet := await read(enclave.tun))[6] != TCP:
                    pass
                nursery.cancel_scope.cancel()
        assert (IPv6Address(packet[8:24]), IPv6Address(packet[24:40])) == (OWN, PEER)
    finally:
        enclave.close()


async def test_its_address_is_good_at_once_whatever_the_kernel_has_to_do() -> None:
    """One that waits for duplicate address detection fails connect() for a moment with EADDRNOTAVAIL, on a busy machine."""
    enclave = await Enclave.open(OWN, 1280)
    try:
        table = await trio.Path(f"/proc/{enclave.pid}/net/if_inet6").read_text()
        (flags,) = (int(line.split()[4], 16) for line in table.splitlines() if line.split()[5] == INTERFACE)
    finally:
        enclave.close()
    assert flags & IFA_F_NODAD


async def test_sockets_are_asked_for_by_many_at_once_and_each_gets_one() -> None:
    """Two tasks may not wait for one descriptor; the process is slower than those who ask."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    enclave = Enclave(None, ours)  # type: ignore[arg-type]  # its process is this test
    made: list[trio.socket.SocketType] = []

    async def make() -> None:
        made.append(await enclave.make_socket())

    with ours, theirs:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(make)
            await trio.testing.wait_all_tasks_blocked()
            assert made == []
            for _ in range(8):
                with socket.socket(socket.AF_INET6) as fresh:
                    socket.send_fds(theirs, [b"socket"], [fresh.fileno()])
    assert len({sock.fileno() for sock in made}) == 8
    for sock in made:
        sock.close()


async def test_the_end_of_its_process_is_noticed() -> None:
    enclave = await Enclave.open(OWN, 1280)
    try:
        os.kill(enclave.pid, signal.SIGKILL)
        with trio.fail_after(5), pytest.raises(UserError, match="the process that holds"):
            await enclave.watch()
        with trio.fail_after(5), pytest.raises(ConnectionResetError):  # noqa: PT012
            while True:
                (await enclave.make_socket()).close()
    finally:
        enclave.close()


def run(*launcher: str) -> str:
    argv = [*launcher, sys.executable, "-c", OPEN]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.mark.slow
def test_where_there_may_be_no_namespaces_that_is_said_with_a_fix() -> None:
    said = run("unshare", "--user", "--map-root-user", "sh", "-c", NO_NAMESPACES, "sh")
    assert said.startswith("no_web_apps this machine does not let the server create a network namespace (E")
    assert "user.max_user_namespaces" in said


@pytest.mark.slow
def test_where_there_is_no_tun_that_is_said_with_a_fix() -> None:
    hide = 'mount -t tmpfs none /dev/net && exec "$@"'
    said = run("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", hide, "sh")
    assert said.startswith("no_web_apps this machine has no /dev/net/tun (ENOENT)")


AS_NOBODY = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--",
)  # fmt: skip
"""By one right alone, to read the project wherever it lies; it opens nothing for writing."""


@pytest.mark.slow
def test_a_device_that_is_roots_alone_is_said_and_the_cure_that_is_said_cures() -> None:
    said = run(*with_own_tun([], mode="600"), *AS_NOBODY)
    assert said.startswith("no_web_apps the server may not open /dev/net/tun (EACCES)"), said
    (cure,) = re.findall("`(.*?)`", said)
    assert run(*with_own_tun([], mode="600", then=cure), *AS_NOBODY) == "opened\n"
