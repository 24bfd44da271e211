"""The server's network namespace, seen from the server: its TUN, and TCP sockets that live in it."""

import errno
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

import trio

from coderd.model.addresses import TAILNET_PREFIX
from coderd.model.errors import UserError
from coderd.tun.io.device import TUN_MODE_HINT, Offloads, TunDevice

INTERFACE = "server0"
"""Name of the TUN device; the namespace has no other."""
START_TIMEOUT = 5.0
"""Seconds within which the process must have made the namespace."""
END_TIMEOUT = 1.0
"""Seconds within which the killed process must end."""

_PROGRAM = Path(__file__).with_name("enclave_process.py")
_MESSAGE_SIZE = 4096
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_NOT_ALLOWED = frozenset({errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.ENOSYS, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class _Received:
    """Message of the process: bytes, and at most one descriptor."""

    data: bytes
    descriptor: int | None


class Enclave:
    """Network namespace that exists from ``open`` to ``close``."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self._receiving = trio.StrictFIFOLock()
        self.tun: TunDevice

    @property
    def pid(self) -> int:
        """Process id of the process that holds the namespace."""
        return self._process.pid

    @classmethod
    async def open(cls, address: IPv6Address, mtu: int) -> "Enclave":
        """Makes the namespace; its TUN has this address and routes the whole tailnet prefix.

        Raises:
            UserError: this machine does not permit it, or the process does not answer.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = _start(theirs, address, mtu)
        enclave = cls(process, ours)
        try:
            with trio.fail_after(START_TIMEOUT):
                enclave.tun = _adopt(await enclave._receive())
        except BaseException as error:
            enclave.close()
            if isinstance(error, trio.TooSlowError):
                raise _refusal("process", errno.ETIMEDOUT) from None
            raise
        return enclave

    async def make_socket(self) -> trio.socket.SocketType:
        """Returns an unconnected TCP socket over IPv6. Raises OSError when the namespace is gone."""
        received = await self._receive()
        if received.descriptor is None:
            raise ConnectionResetError("the network namespace is gone")
        return trio.socket.from_stdlib_socket(socket.socket(fileno=received.descriptor))

    async def watch(self) -> None:
        """Waits until the process ends, then raises UserError."""
        descriptor = os.pidfd_open(self._process.pid)
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        raise _refusal("process", None)

    def close(self) -> None:
        """Kills the process, which ends its namespace and all connections in it."""
        self._channel.close()
        if hasattr(self, "tun"):
            self.tun.close()
        self._process.kill()
        self._process.wait(END_TIMEOUT)

    async def _receive(self) -> _Received:
        """Returns the next message. Locked, since only one task may wait for a descriptor.

        Tasks are served in turn.
        """
        async with self._receiving:
            while True:
                await trio.lowlevel.wait_readable(self._channel)
                try:
                    data, descriptors, _, _ = socket.recv_fds(self._channel, _MESSAGE_SIZE, 1, _FLAGS)
                except BlockingIOError:  # woken for nothing
                    continue
                return _Received(data, descriptors[0] if descriptors else None)


def _start(theirs: socket.socket, address: IPv6Address, mtu: int) -> subprocess.Popen[bytes]:
    arguments = [INTERFACE, str(address), str(TAILNET_PREFIX.prefixlen), str(mtu)]
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM), *arguments],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env={},
            cwd="/",
        )
    except OSError as error:
        raise _refusal("process", error.errno) from None


def _adopt(received: _Received) -> TunDevice:
    if not received.data:
        raise _refusal("process", None)
    message = json.loads(received.data)
    if received.descriptor is None:
        raise _refusal(message["step"], message["errno"])
    return TunDevice.adopt(received.descriptor, INTERFACE, Offloads.of(message["offloads"]))


def _refusal(step: str, number: int | None) -> UserError:
    """Returns the reason why the server has no namespace, as a clause, with a hint."""
    match step:
        case "namespace" if number in _NOT_ALLOWED:
            why = "this machine does not let the server create a network namespace"
            hint = (
                "Allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone,"
                " kernel.apparmor_restrict_unprivileged_userns), or RestrictNamespaces=user net in its unit."
            )
        case "tun" if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            why = "this machine has no /dev/net/tun"
            hint = "Load the module with `modprobe tun`; in a container, pass the device in with `--device /dev/net/tun`."
        case "tun" if number == errno.EACCES:
            why, hint = "the server may not open /dev/net/tun", TUN_MODE_HINT
        case "tun" if number in _NOT_ALLOWED:
            why = "the server may not open /dev/net/tun"
            hint = "Allow the device with DeviceAllow=/dev/net/tun rw in its unit, or to its container."
        case "address":
            why = "a network namespace has no IPv6 here"
            hint = "Boot without ipv6.disable=1."
        case _:
            why, hint = "the process that holds its network namespace ended", "The journal has the reason."
    if number is not None:
        why += f" ({errno.errorcode.get(number, str(number))})"
    return UserError(why, hint=hint, code="no_web_apps")
