"""The TUN device: opened by python-pytun, then read and written with whole super-packets.

The kernel hands over up to 64 KiB at a time only to a reader that asks for it: IFF_VNET_HDR puts a virtio
header in front of each packet, TUNSETOFFLOAD names the kinds of super-packets that the reader can cut up. USO
needs Linux 6.2; USO4 and USO6 are accepted only together, and all kinds only with CSUM. ``readv`` and
``writev`` keep the header in a buffer of its own, so no packet is copied to put a header in front of it.

A device belongs to one process: IFF_TUN_EXCL refuses a name that exists, a persistent interface that no
process has open included, as its settings belong to another program.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import pytun
import structlog

from coderd.model import Buffer
from coderd.model.errors import Exit, UserError
from coderd.tun.split import split
from coderd.tun.virtio import HEADER_SIZE, NO_OFFLOAD

MAX_NAME_LENGTH = 15
TUN_MODE_HINT: Final = (
    "Let every user open it, as udev and the units of this project do: `chmod 0666 /dev/net/tun` as root; what may be done"
    " with it, CAP_NET_ADMIN decides."
)
"""Hint for EACCES on opening /dev/net/tun: the kernel creates it with mode 0600, udev's rules change that."""

_TUNSETOFFLOAD = 0x400454D0
_CSUM, _TSO4, _TSO6, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x20, 0x40
_FLAGS = pytun.IFF_TUN | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR | pytun.IFF_TUN_EXCL

log = structlog.get_logger()


class Offloads(NamedTuple):
    """Kinds of super-packets exchanged with the kernel: of TCP (``tso``), of UDP (``uso``)."""

    tso: bool
    uso: bool

    @property
    def bits(self) -> int:
        """The argument of TUNSETOFFLOAD."""
        tso = _CSUM | _TSO4 | _TSO6 if self.tso else 0
        return tso | (_CSUM | _USO4 | _USO6 if self.uso else 0)

    @classmethod
    def of(cls, bits: int) -> "Offloads":
        """Returns the offloads that an argument of TUNSETOFFLOAD asks for."""
        return cls(tso=bool(bits & _TSO6), uso=bool(bits & _USO6))


ALL_OFFLOADS = Offloads(tso=True, uso=True)


class OpenTun(Protocol):
    """Owner of the file descriptor of an open TUN device."""

    @property
    def name(self) -> str:
        """The name of the network interface."""

    def fileno(self) -> int:
        """Returns the device's open file descriptor."""

    def close(self) -> None:
        """Closes the device's file descriptor."""


class _Adopted:
    """A TUN device's file descriptor that another process opened and handed over."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self.name = name

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


class TunDevice:
    """An open TUN interface, non-blocking; the kernel removes the interface when it is closed.

    Wait with ``trio.lowlevel.wait_readable(device.fileno())``, then read until ``BlockingIOError``.

    Attributes:
        name: the interface's name, a pattern such as ``coder%d`` resolved.
        offloads: the super-packets that the kernel agreed to.
    """

    def __init__(self, tun: OpenTun, offloads: Offloads) -> None:
        self._tun: OpenTun | None = tun
        self._fd: Final[int] = tun.fileno()
        self._has_refused = False
        self.name: Final[str] = tun.name
        self.offloads: Final = offloads

    @classmethod
    def open(cls, name: str, *, offloads: Offloads = ALL_OFFLOADS) -> "TunDevice":
        """Creates a TUN interface and returns its device.

        Args:
            name: at most 15 bytes; ``%d`` in it becomes the first free number.
            offloads: those to ask for; the device's attribute holds those that the kernel grants.

        Raises: UserError if the name is invalid or taken, or this process or machine cannot create an
            interface.
        """
        _check_name(name)
        try:
            tun = pytun.TunTapDevice(name=name, flags=_FLAGS)
        except pytun.Error as error:
            raise _explain(error, name) from error
        os.set_blocking(tun.fileno(), False)
        os.set_inheritable(tun.fileno(), False)
        return cls(tun, _negotiate(tun.fileno(), offloads))

    @classmethod
    def adopt(cls, descriptor: int, name: str, offloads: Offloads) -> "TunDevice":
        """Wraps a device that another process opened with IFF_VNET_HDR, perhaps in another network namespace.

        Args:
            descriptor: the device's file descriptor; ``close`` closes it.
            name: the interface's name in that namespace.
            offloads: those that the kernel agreed to.
        """
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)
        return cls(_Adopted(descriptor, name), offloads)

    def fileno(self) -> int:
        """Returns the file descriptor, -1 when closed."""
        return self._fd if self._tun is not None else -1

    def read_into(self, header: bytearray, buffer: bytearray | memoryview) -> int:
        """Reads one packet or super-packet.

        Args:
            header: 10 bytes, overwritten with the virtio header.
            buffer: at least 65535 bytes; bytes that do not fit are lost.

        Returns: the packet's length in ``buffer``, in bytes.
        Raises: BlockingIOError when no packet waits; OSError EBADFD when the interface has been deleted.
        """
        return os.readv(self._fd, (header, buffer)) - HEADER_SIZE

    def write(self, iovec: Sequence[Buffer]) -> None:
        """Writes one packet or super-packet, a gather list of ``coalesce``, to the kernel.

        Some kernels of 2024 (6.11-rc, 6.6.44 and relatives) refuse super-packets with a short last segment; a
        super-packet that is refused is written again, cut into its packets.

        Raises: OSError: EIO while the interface is down, EINVAL for an invalid packet, EBADFD when it has
            been deleted.
        """
        try:
            os.writev(self._fd, iovec)
        except OSError as error:
            if error.errno != errno.EINVAL or iovec[0] == NO_OFFLOAD:
                raise
            self._write_singly(iovec)

    def close(self) -> None:
        """Closes the device, which removes the interface, its addresses and routes; may be called again."""
        if self._tun is not None:
            self._tun.close()
            self._tun = None

    def __enter__(self) -> "TunDevice":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_singly(self, iovec: Sequence[Buffer]) -> None:
        if not self._has_refused:
            self._has_refused = True
            log.warning("the kernel refuses a super-packet, writing its parts singly", interface=self.name)
        for packet in split(iovec[0], b"".join(iovec[1:])):
            os.writev(self._fd, (NO_OFFLOAD, packet))


def _negotiate(fd: int, wanted: Offloads) -> Offloads:
    """Returns the offloads that the kernel accepts: all wanted, or without USO, or none.

    Without any the kernel hands over ordinary packets behind zeroed headers. Raises OSError.
    """
    for offloads in dict.fromkeys((wanted, wanted._replace(uso=False), Offloads(tso=False, uso=False))):
        try:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, offloads.bits)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            return offloads
    return Offloads(tso=False, uso=False)


def _check_name(name: str) -> None:
    is_usable = (
        0 < len(name.encode()) <= MAX_NAME_LENGTH
        and name not in (".", "..")
        and not any(letter in "/:" or letter.isspace() or letter == "\0" for letter in name)
    )
    if not is_usable:
        raise _bad_name(name)


def _bad_name(name: str) -> UserError:
    return UserError(
        f"{name!r} cannot be the name of a network interface",
        exit_code=Exit.USAGE,
        hint=f"Choose up to {MAX_NAME_LENGTH} letters, digits, dots and dashes, such as coder0.",
        code="bad_interface_name",
    )


def _explain(error: OSError, name: str) -> UserError:
    """Returns the user's error for an errno of opening /dev/net/tun or of TUNSETIFF."""
    if error.errno == errno.EINVAL:
        return _bad_name(name)
    if error.errno == errno.EBUSY:
        return UserError(
            f"there is already a network interface named {name}",
            hint="Stop the daemon that owns it, delete it with `ip link delete`, or choose another name.",
            code="interface_exists",
        )
    if error.errno == errno.EACCES:
        return UserError(
            f"creating the network interface {name} is not permitted: this user may not open /dev/net/tun",
            hint=TUN_MODE_HINT,
            code="not_permitted",
        )
    if error.errno == errno.EPERM:
        return UserError(
            f"creating the network interface {name} is not permitted: that needs CAP_NET_ADMIN and the device /dev/net/tun",
            hint="Run as root, or start the daemon by its systemd unit, which grants the capability.",
            code="not_permitted",
        )
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return UserError(
            "this machine has no /dev/net/tun, so no network interface can be created",
            hint="Load the module with `modprobe tun`; in a container, pass the device in with `--device /dev/net/tun`.",
            code="no_tun",
        )
    return UserError(
        f"the network interface {name} cannot be created: {error.strerror or error}", code="no_tun"
    )
